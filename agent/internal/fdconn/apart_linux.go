package fdconn

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// table is held while a thread copies this process's descriptors and closes those that it is not given: a copy of one
// that is moved meanwhile could be the last, and its close hang there.
var table sync.Mutex

// Apart moves descriptors to a new thread that has no others of this process, and calls f there. It returns when they
// are moved: their numbers are free here, and f's are the same. The thread ends with f, which must not start processes
// or use other descriptors, and it gets no signals but SIGURG.
//
// Reason: reading, writing or closing what an application has a copy of can hang in the kernel for as long as the
// application likes, whatever this process is sent (a pipe's lock, held by a writer that stalls in a page fault). A
// process that is killed then keeps the descriptors of that thread. So those are no locks and no sockets.
func Apart(move []int, f func()) { runApart(move, func(bool) { f() }) }

// runApart tells f whether its thread has descriptors of its own.
func runApart(move []int, f func(own bool)) {
	table.Lock()
	defer table.Unlock()
	moved, closed := make(chan bool), make(chan struct{})
	own := false
	go apart(move, moved, func() { <-closed; f(own) }) // ends with f, which cannot be ended
	if own = <-moved; own {
		for _, fd := range move {
			unix.Close(fd) // never the last of its kind
		}
	}
	close(closed)
}

// apart makes this goroutine's thread one that has only keep, and sends whether it could.
func apart(keep []int, done chan<- bool, f func()) {
	runtime.LockOSThread() // until the goroutine ends, and the thread with it
	if unix.Gettid() == os.Getpid() {
		another := make(chan bool) // the main thread cannot end; while this goroutine has it, others do not
		go apart(keep, another, f)
		done <- <-another
		runtime.UnlockOSThread()
		return
	}
	blockSignals()
	ok := unix.Unshare(unix.CLONE_FILES) == nil
	if ok {
		closeAllBut(slices.Concat([]int{0, 1, 2}, runtimeFiles(), keep))
	}
	done <- ok
	f()
}

// blockSignals keeps this process's signals from a thread that may hang: they would hang with it.
func blockSignals() {
	all := unix.Sigset_t{}
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	for _, sig := range []unix.Signal{unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, unix.SIGILL, unix.SIGTRAP, unix.SIGURG} {
		all.Val[0] &^= 1 << (sig - 1)
	}
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &all, nil)
}

// closeAllBut closes the descriptors of this thread, the locks first (Early).
func closeAllBut(keep []int) {
	slices.Sort(keep)
	if !closeBetween(earlyFrom, ^uint(0), keep) || !closeBetween(0, earlyFrom-1, keep) {
		closeListed(keep) // kernels before 5.9
	}
}

// closeBetween closes those from one to another, and reports whether the kernel can.
func closeBetween(from, to uint, keep []int) bool {
	for _, fd := range keep {
		fd := uint(fd)
		if fd < from || fd > to {
			continue
		}
		if fd > from && unix.CloseRange(from, fd-1, 0) != nil {
			return false
		}
		from = fd + 1
	}
	return from > to || unix.CloseRange(from, to, 0) == nil
}

func closeListed(keep []int) {
	for _, fd := range listed("/proc/thread-self/fd") {
		if !slices.Contains(keep, fd) {
			unix.Close(fd)
		}
	}
}

func listed(dir string) (files []int) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil {
			files = append(files, fd)
		}
	}
	return files
}

// findRuntimeFiles is called before descriptors of others can be here.
func findRuntimeFiles() { runtimeFiles() }

// runtimeFiles are those that the Go runtime uses on every thread: of its network poller.
var runtimeFiles = sync.OnceValue(func() (files []int) {
	if r, w, err := os.Pipe(); err == nil { // has it opened
		r.Close()
		w.Close()
	}
	for _, fd := range listed("/proc/self/fd") {
		target, _ := os.Readlink(filepath.Join("/proc/self/fd", strconv.Itoa(fd)))
		if strings.HasPrefix(target, "anon_inode:[event") { // eventpoll, and eventfd to wake it
			files = append(files, fd)
		}
	}
	return files
})
