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

// Estimate computes the requests of a job with so many slots a month on so many instances: the winner writes its claim
// and its end; every other instance reads once, and once more, after the lease, when the next slot is later. Contention
// after a winner's death adds a few, and each instance that waits for a run in progress reads each 15 seconds.
func Estimate(slots, instances int) Cost {
	reads := 1
	if slots > 0 && month/time.Duration(slots) > lease+margin {
		reads = 2
	}
	return cost(2*slots, reads*slots*max(0, instances-1))
}

// LeaseCost is what Estimate lacks of a run that goes on for the whole month: its renewals.
func LeaseCost() Cost { return cost(int(month/RenewEvery), 0) }

func cost(puts, gets int) Cost {
	return Cost{puts, gets, float64(puts)/1000*pricePut + float64(gets)/1000*priceGet}
}

// EstimateLooks computes the requests of so many instances that each list the bucket once an hour: see Others. A list
// has the price of a write. Where other environments have jobs of the same names, some reads are added.
func EstimateLooks(instances int) Cost {
	c := Cost{Puts: int(month/time.Hour) * instances}
	c.Dollars = float64(c.Puts) / 1000 * pricePut
	return c
}
