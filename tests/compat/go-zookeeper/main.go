// go-zookeeper against an ensemble: nodes, transactions, ephemerals, watches, its lock.
// Usage: gozookeeper HOST:PORT,.. [SECONDS]. With SECONDS, locks, versions, protected sequences and watches go on that long, all at
// once, while members die; sessions have to outlive it. Prints one line a check; the exit status is the number of failures.
package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-zookeeper/zk"
)

const (
	patience   = 30 * time.Second
	calmRounds = 15
)

var (
	servers  []string
	end      time.Time // zero: a number of rounds
	suffix   string
	acl      = zk.WorldACL(zk.PermAll)
	failures atomic.Int32
	expired  atomic.Int32
)

type quiet struct{}

func (quiet) Printf(string, ...any) {}

func connect() *zk.Conn {
	conn, events, err := zk.Connect(servers, 15*time.Second, zk.WithLogger(quiet{}))
	if err != nil {
		panic(err)
	}
	ready := make(chan struct{})
	go func() {
		first := true
		for event := range events {
			if event.State == zk.StateHasSession && first {
				first = false
				close(ready)
			}
			if event.State == zk.StateExpired {
				expired.Add(1)
			}
		}
	}()
	select {
	case <-ready:
	case <-time.After(patience):
		panic("no session")
	}
	return conn
}

func more(done int) bool {
	if end.IsZero() {
		return done < calmRounds
	}
	return time.Now().Before(end)
}

// lost says that nothing is known of what was asked: its connection broke.
func lost(err error) bool {
	return errors.Is(err, zk.ErrConnectionClosed) || errors.Is(err, zk.ErrNoServer)
}

// retry repeats what may be done twice.
func retry(run func() error) error {
	deadline := time.Now().Add(patience)
	for {
		err := run()
		if err == nil || !lost(err) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// current brings the member of conn to all that anybody was told before: it may answer from the past otherwise.
func current(conn *zk.Conn) error {
	_, err := conn.Sync("/")
	return err
}

// zero makes a node that says 0, whatever happens to the connection.
func zero(conn *zk.Conn, path string) error {
	return retry(func() error {
		_, err := conn.Create(path, []byte("0"), 0, acl)
		if err == zk.ErrNodeExists {
			err = nil // an attempt whose answer was lost
		}
		return err
	})
}

func base(name string) string { return fmt.Sprintf("/go-zookeeper-%d-%s", os.Getpid(), name) }

func check(name string, run func() (string, error)) {
	before := expired.Load()
	found, err := run()
	if err == nil && expired.Load() != before {
		err = errors.New("a session was lost")
	}
	if err != nil {
		failures.Add(1)
		fmt.Printf("FAIL go-zookeeper %s%s: %v\n", name, suffix, err)
		return
	}
	fmt.Printf("ok   go-zookeeper %s%s: %s\n", name, suffix, found)
}

// together runs work in n clients at once; the first error is told.
func together(n int, work func(nth int, conn *zk.Conn) error) error {
	found := make(chan error, n)
	for nth := range n {
		go func() {
			conn := connect()
			defer conn.Close()
			found <- work(nth, conn)
		}()
	}
	limit := 2 * patience
	if !end.IsZero() {
		limit += time.Until(end)
	}
	tooLate := time.After(limit)
	var first error
	for range n {
		select {
		case err := <-found:
			if first == nil {
				first = err
			}
		case <-tooLate:
			return errors.New("a client hangs")
		}
	}
	return first
}

func nodes() (string, error) {
	conn, path := connect(), base("nodes")
	defer conn.Close()
	if _, err := conn.Create(path, []byte("one"), 0, acl); err != nil {
		return "", err
	}
	if _, err := conn.Create(path, nil, 0, acl); err != zk.ErrNodeExists {
		return "", fmt.Errorf("created twice: %v", err)
	}
	if _, err := conn.Set(path, []byte("two"), 7); err != zk.ErrBadVersion {
		return "", fmt.Errorf("a wrong version: %v", err)
	}
	if _, err := conn.Set(path, []byte("two"), 0); err != nil {
		return "", err
	}
	data, stat, err := conn.Get(path)
	if err != nil || string(data) != "two" || stat.Version != 1 {
		return "", fmt.Errorf("%q %+v %v", data, stat, err)
	}
	_, err = conn.Multi(&zk.CreateRequest{Path: path + "/a", Acl: acl}, &zk.CheckVersionRequest{Path: path, Version: 9})
	if err != zk.ErrBadVersion {
		return "", fmt.Errorf("a multi that must fail: %v", err)
	}
	if there, _, err := conn.Exists(path + "/a"); there || err != nil {
		return "", fmt.Errorf("half a multi: %v", err)
	}
	results, err := conn.Multi(&zk.CreateRequest{Path: path + "/a", Acl: acl}, &zk.SetDataRequest{Path: path, Data: []byte("three"), Version: 1},
		&zk.DeleteRequest{Path: path + "/a", Version: 0})
	if err != nil || len(results) != 3 {
		return "", fmt.Errorf("a multi: %v %v", results, err)
	}
	if err := conn.Delete(path, 1); err != zk.ErrBadVersion {
		return "", fmt.Errorf("deleted by a wrong version: %v", err)
	}
	return "create, set, get, multi, delete", conn.Delete(path, 2)
}

func ephemerals() (string, error) {
	one, two, path := connect(), connect(), base("ephemeral")
	defer two.Close()
	if _, err := one.Create(path, nil, zk.FlagEphemeral, acl); err != nil {
		return "", err
	}
	if err := current(two); err != nil {
		return "", err
	}
	there, _, gone, err := two.ExistsW(path)
	if err != nil || !there {
		return "", fmt.Errorf("it is there: %v %v", there, err)
	}
	one.Close()
	select {
	case event := <-gone:
		if event.Type != zk.EventNodeDeleted {
			return "", fmt.Errorf("an event: %+v", event)
		}
	case <-time.After(patience):
		return "", errors.New("it outlived its session")
	}
	return "it goes with its session", nil
}

func auth() (string, error) {
	one, two, path := connect(), connect(), base("auth")
	defer one.Close()
	defer two.Close()
	if err := one.AddAuth("digest", []byte("bob:secret")); err != nil {
		return "", err
	}
	if _, err := one.Create(path, []byte("x"), 0, zk.DigestACL(zk.PermAll, "bob", "secret")); err != nil {
		return "", err
	}
	if err := current(two); err != nil {
		return "", err
	}
	if _, _, err := two.Get(path); err != zk.ErrNoAuth {
		return "", fmt.Errorf("a stranger reads: %v", err)
	}
	if data, _, err := one.Get(path); err != nil || string(data) != "x" {
		return "", fmt.Errorf("its owner reads: %q %v", data, err)
	}
	return "digest", one.Delete(path, -1)
}

// locks: one holder at a time, and a number that each holder raises by one without a version.
func locks() (string, error) {
	path, number := base("lock"), base("number")
	first := connect()
	defer first.Close()
	if err := zero(first, number); err != nil {
		return "", err
	}
	var inside, done atomic.Int32
	err := together(4, func(_ int, conn *zk.Conn) error {
		for n := 0; more(n); n++ {
			lock := zk.NewLock(conn, path, acl)
			// The library's lock gives up with its connection, and what it had queued up with stays: such a client starts afresh.
			if err := lock.Lock(); lost(err) {
				conn.Close()
				conn = connect()
				continue
			} else if err != nil {
				return fmt.Errorf("lock: %w", err)
			}
			if inside.Add(1) != 1 {
				return errors.New("two hold the lock")
			}
			var value int
			err := retry(func() error {
				data, _, err := conn.Get(number)
				if err == nil {
					value, err = strconv.Atoi(string(data))
				}
				return err
			})
			if err == nil {
				err = retry(func() error { _, err := conn.Set(number, []byte(strconv.Itoa(value+1)), -1); return err })
			}
			if err != nil {
				return fmt.Errorf("the number: %w", err)
			}
			done.Add(1)
			inside.Add(-1)
			if err := retry(lock.Unlock); err != nil && err != zk.ErrNoNode {
				return fmt.Errorf("unlock: %w", err)
			}
		}
		conn.Close()
		return nil
	})
	if err != nil {
		return "", err
	}
	if err := retry(func() error { return current(first) }); err != nil {
		return "", err
	}
	data, _, err := first.Get(number)
	if err != nil || string(data) != fmt.Sprint(done.Load()) {
		return "", fmt.Errorf("%d holders added one each, the number is %q (%v)", done.Load(), data, err)
	}
	return fmt.Sprintf("%d holds", done.Load()), nil
}

// versions: a counter by compare-and-set; an addition whose answer was lost may have happened, once.
func versions() (string, error) {
	path := base("counter")
	first := connect()
	defer first.Close()
	if err := zero(first, path); err != nil {
		return "", err
	}
	var done, unknown atomic.Int32
	err := together(3, func(_ int, conn *zk.Conn) error {
		for n := 0; more(n); n++ {
			data, stat, err := conn.Get(path)
			if lost(err) {
				continue
			} else if err != nil {
				return err
			}
			value, _ := strconv.Atoi(string(data))
			switch _, err := conn.Set(path, []byte(strconv.Itoa(value+1)), stat.Version); {
			case err == nil:
				done.Add(1)
			case lost(err):
				unknown.Add(1)
			case err != zk.ErrBadVersion:
				return err
			}
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	var value int
	err = retry(func() error {
		if err := current(first); err != nil {
			return err
		}
		data, _, err := first.Get(path)
		value, _ = strconv.Atoi(string(data))
		return err
	})
	if err != nil || value < int(done.Load()) || value > int(done.Load()+unknown.Load()) {
		return "", fmt.Errorf("%d acknowledged, %d unknown, the counter says %d (%v)", done.Load(), unknown.Load(), value, err)
	}
	return fmt.Sprintf("%d additions, %d unknown", done.Load(), unknown.Load()), nil
}

// sequences: every protected ephemeral sequential node is made exactly once.
func sequences() (string, error) {
	path := base("sequence")
	first := connect()
	defer first.Close()
	if err := zero(first, path); err != nil {
		return "", err
	}
	var mutex sync.Mutex
	made := map[string]bool{}
	err := together(2, func(nth int, conn *zk.Conn) error {
		for n := 0; more(n); n++ {
			name, err := conn.CreateProtectedEphemeralSequential(fmt.Sprintf("%s/c%d-", path, nth), nil, acl)
			if lost(err) {
				continue
			} else if err != nil {
				return err
			}
			number := name[len(name)-10:]
			mutex.Lock()
			twice := made[number]
			made[number] = true
			mutex.Unlock()
			if twice {
				return fmt.Errorf("two nodes have the number %s", number)
			}
			if err := retry(func() error { return conn.Delete(name, -1) }); err != nil && err != zk.ErrNoNode {
				return fmt.Errorf("%s: %w", name, err)
			}
			time.Sleep(time.Millisecond)
		}
		return nil
	})
	return fmt.Sprintf("%d numbers", len(made)), err
}

// watches: what a watcher reads never goes back, and it learns of the last value without looking on its own.
func watches() (string, error) {
	path := base("watched")
	writer := connect()
	defer writer.Close()
	if err := zero(writer, path); err != nil {
		return "", err
	}
	var last int // once finished
	finished := make(chan struct{})
	go func() {
		n := 0
		for ; more(n); n++ {
			_ = retry(func() error { _, err := writer.Set(path, []byte(strconv.Itoa(n)), -1); return err })
			time.Sleep(5 * time.Millisecond)
		}
		_ = retry(func() error { _, err := writer.Set(path, []byte(strconv.Itoa(n)), -1); return err })
		last = n
		close(finished)
	}()
	var seen atomic.Int64
	err := together(2, func(_ int, conn *zk.Conn) error {
		newest := 0
		for {
			var changed <-chan zk.Event
			err := retry(func() error {
				data, _, events, err := conn.GetW(path)
				changed = events
				if err != nil {
					return err
				}
				value, _ := strconv.Atoi(string(data))
				if value < newest {
					return fmt.Errorf("%d after %d", value, newest)
				}
				newest = value
				return nil
			})
			if err != nil {
				return err
			}
			seen.Add(1)
			select {
			case <-changed:
				continue
			case <-finished:
			}
			if newest == last {
				return nil
			}
			select {
			case <-changed:
			case <-time.After(patience):
				return fmt.Errorf("no event after %d; the last value is %d", newest, last)
			}
		}
	})
	return fmt.Sprintf("%d looks", seen.Load()), err
}

func main() {
	servers = strings.Split(os.Args[1], ",")
	if len(os.Args) > 2 {
		seconds, err := strconv.Atoi(os.Args[2])
		if err != nil {
			panic(err)
		}
		end, suffix = time.Now().Add(time.Duration(seconds)*time.Second), " while members die"
	} else {
		check("nodes", nodes)
		check("ephemerals", ephemerals)
		check("auth", auth)
	}
	var all sync.WaitGroup
	for name, run := range map[string]func() (string, error){"locks": locks, "versions": versions, "sequences": sequences, "watches": watches} {
		all.Go(func() { check(name, run) })
	}
	all.Wait()
	os.Exit(int(failures.Load()))
}
