// Package health decides whether the application is up, as a load balancer should be told.
//
// No load balancer can send the Host that a framework validates, so something beside the
// application has to ask with the right one. A [Checker] sends one GET to the application's own
// port (never through nginx: Beanstalk's health log must not count it), with the configured Host
// and headers, over a fresh connection and within one time limit, follows no redirect, and says
// what it saw in one sentence. [Checker.Serve] answers a load balancer behind nginx on loopback.
//
// The answer is never a guess: what cannot be told is 503 with the reason. However many ask, the
// application is asked once for each lifetime of a verdict.
package health
