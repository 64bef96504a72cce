package claim

import "time"

// Prices of S3 Standard requests in us-east-1, in dollars a thousand, as of third parties' lists in 2026-11; see
// https://aws.amazon.com/s3/pricing. Refused conditions are billed like any request.
const (
	pricePut = 0.005
	priceGet = 0.0004
)

const month = 365 * 24 * time.Hour / 12

// Cost is the cost of claims in a month.
type Cost struct {
	Puts    int     `json:"puts"`
	Gets    int     `json:"gets"`
	Dollars float64 `json:"dollars"`
}

// Estimate computes the requests of a job with so many slots a month on so many instances whose runs take so long. The
// winner writes its claim and its end, and its lease each RenewEvery; every other instance reads once, and once more,
// after the lease, when the next slot is later. While a run is in progress no slot is claimed. Contention after a
// winner's death adds a few, and each instance that waits for a run in progress reads each 15 seconds.
func Estimate(slots, instances int, took time.Duration) Cost {
	runs, others := slots, max(0, instances-1)
	if took > 0 {
		runs = min(runs, max(1, int(month/took)))
	}
	c := Cost{Puts: runs * (2 + int(took/RenewEvery)), Gets: slots * others}
	if slots > 0 && month/time.Duration(slots) > lease+margin {
		c.Gets += runs * others
	}
	c.Dollars = float64(c.Puts)/1000*pricePut + float64(c.Gets)/1000*priceGet
	return c
}
