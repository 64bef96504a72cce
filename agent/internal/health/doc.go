// Package health checks whether the application is up, and answers load balancers.
//
// No load balancer can send the Host that a framework validates, so the agent asks with the right one. A [Checker]
// sends one GET to the application's own port (never through nginx: Beanstalk's health log must not count it), with the
// configured Host and headers, over a new connection and within one time limit, follows no redirect, and describes the
// result in one sentence. [Checker.Serve] answers a load balancer behind nginx on loopback.
//
// The answer is never a guess: an unknown state is 503 with the reason. However many clients ask,
// the application is asked once for each lifetime of a verdict.
package health
