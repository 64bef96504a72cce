// Package claim lets one instance of a fleet run each slot of a job, by compare-and-swap on one S3 object per job.
//
// A slot is a job's scheduled time, the same on instances whose clocks differ. The object, the job's register, lists
// the last claims, newest first. A claim reads the register and writes it back with the slot added, on the condition
// that it has not changed in between; S3 decides. Three rules keep it right:
//
//   - A refused condition does not mean that the slot is lost, only that another instance wrote: read again.
//   - A write whose response was lost may have won: each claim has a nonce; the instance that reads it back has won.
//   - A late, older slot is added beside the newer ones, never instead of them. One older than all slots still in the
//     register is Superseded: it is not known whether it ran.
//
// A claimed run has a lease, which its owner renews. With Skip, Queue and Replace no other run of the job starts while
// one may be in progress. One whose lease has passed is lost, and counts no more.
//
// At most one instance runs a slot, unless its run was lost or interrupted and TakeOver runs it again, once. Force, and
// a caller that runs what could not be claimed, are beyond these rules. Exactly one does if one that stays up can reach
// the bucket within the window. When a claim is neither won nor lost, the slot does not run on this instance and the
// caller gets an error.
//
// The default role of Elastic Beanstalk instances may already read and write the environment's own bucket, so this
// needs no new infrastructure and no new permission.
package claim

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// DefaultPrefix is where in a bucket the registers are when nothing else is configured.
const DefaultPrefix = "beanstalk-agent/claims"

// Config says where the registers are, and for which instance slots are claimed.
type Config struct {
	// Required. Bucket, and the region it is in.
	Bucket string
	Region string

	// Required. Environment keeps two environments of one application, which may share a bucket, apart. All instances
	// of one must say the same.
	Environment string

	// Required. Owner is this instance's name, as shown to users.
	Owner string

	// Required. Credentials that may get and put objects under Prefix.
	Credentials aws.CredentialsProvider

	// Optional. Group, if set, replaces Environment in the registers' place, so that environments share their jobs'
	// slots.
	Group string

	// Optional.
	Prefix   string       // "": DefaultPrefix
	Endpoint string       // URL of another S3-compatible service; "": AWS's own for the region
	Client   *http.Client // nil: http.DefaultClient
	Logger   *slog.Logger // nil: none
}

// Errors that a caller may match. Each is wrapped in a sentence that says what to do.
var (
	// ErrUnreachable: the window passed without a response that decides the claim.
	ErrUnreachable = errors.New("the claim store cannot be reached")

	// ErrDenied: the role lacks a permission; the message has the statement to add.
	ErrDenied = errors.New("the claim store denies access")

	// ErrMisconfigured: the bucket does not exist, is in another region, or has another object in the register's place.
	ErrMisconfigured = errors.New("the claim store is not usable as configured")

	// errAhead: a slot of the future, in the register or of an instance whose clock is wrong.
	errAhead = fmt.Errorf("%w: a clock is wrong, or somebody else writes there", ErrMisconfigured)

	// ErrNotRecorded: the register does not, or no longer, list the slot as claimed by this instance. A run that is
	// still in progress must end.
	ErrNotRecorded = errors.New("the slot is not in the register")
)

// Store claims slots. It is safe for concurrent use.
type Store struct {
	config Config
	s3     *bucket
	logger *slog.Logger
	mark   string // of this process, in what it notes of others' runs

	mu     sync.Mutex // guards the fields below
	given  map[string]bool
	jobs   map[string]*jobState
	known  int // jobs whose last register is kept
	counts Status
}

// New checks c, and returns all faults at once. It does not use the network.
func New(c Config) (*Store, error) {
	c.Owner = plain(c.Owner) // as it is read back
	if c.Prefix == "" {
		c.Prefix = DefaultPrefix
	}
	if c.Client == nil {
		c.Client = http.DefaultClient
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	var errs []error
	for _, f := range []struct{ what, value string }{{"environment", c.Environment}, {"owner", c.Owner}} {
		if f.value == "" {
			errs = append(errs, fmt.Errorf("use a claim store: the %s is not known", f.what))
		}
	}
	if c.Credentials == nil {
		errs = append(errs, errors.New("use a claim store: credentials are required"))
	}
	b, err := newBucket(c)
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	counts := Status{Won: map[string]int{}}
	return &Store{config: c, s3: b, logger: c.Logger, mark: newNonce(), given: map[string]bool{},
		jobs: map[string]*jobState{}, counts: counts}, nil
}

// Owner is this instance as the registers name it.
func (s *Store) Owner() string { return s.config.Owner }
