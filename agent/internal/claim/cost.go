package claim

// Prices of S3 Standard requests in us-east-1, in dollars a thousand, as of third parties' lists in 2026-11; see
// https://aws.amazon.com/s3/pricing. Refused conditions are billed like any request.
const (
	pricePut = 0.005
	priceGet = 0.0004
)

// Cost is the cost of claims in a month.
type Cost struct {
	Puts    int     `json:"puts"`
	Gets    int     `json:"gets"`
	Dollars float64 `json:"dollars"`
}

// Estimate computes the requests of a job with so many slots a month on so many instances: the winner writes twice,
// its claim and its end; every other reads once. Contention after a winner's death adds a few.
func Estimate(slots, instances int) Cost {
	c := Cost{Puts: 2 * slots, Gets: slots * max(0, instances-1)}
	c.Dollars = float64(c.Puts)/1000*pricePut + float64(c.Gets)/1000*priceGet
	return c
}
