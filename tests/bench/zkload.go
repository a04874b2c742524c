// zkload loads any ensemble that speaks ZooKeeper's protocol. Nothing but Go's own library. Run by coordinator.sh.
//
//	zkload rate  SERVERS set|get SESSIONS SECONDS   256 B each, one request in flight a session: prints "requests/s p50-us p99-us failed"
//	zkload first SERVERS SINCE-MS                   until a write is acknowledged: prints the ms since then
//	zkload after-kill PID SERVERS                   kill -9 of PID, then the ms until a write asked for after it is acknowledged
//	zkload fill  SERVERS N                          makes N znodes of 256 B below /fill
//	zkload watch SERVERS N                          a watch on each of them, from ten sessions; says "ready", holds until its input ends
//	zkload idle  SERVERS N                          N sessions that only ping; says "ready N", holds until its input ends
package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	opCreate, opGetData, opSetData, opPing, opClose = 1, 4, 5, 11, -11
	timeoutMs                                       = 30000
	size                                            = 256
	patience                                        = 90 * time.Second
)

// session is one connection with its session.
type session struct {
	conn   net.Conn
	in     *bufio.Reader
	xid    int32
	id     int64
	secret []byte
}

type frame []byte

func (f frame) int(v int32) frame  { return binary.BigEndian.AppendUint32(f, uint32(v)) }
func (f frame) long(v int64) frame { return binary.BigEndian.AppendUint64(f, uint64(v)) }
func (f frame) bytes(v []byte) frame {
	return append(f.int(int32(len(v))), v...)
}

// dial opens a session, or goes on with the one that `before` had.
func dial(server string, before *session) (*session, error) {
	conn, err := net.DialTimeout("tcp", server, time.Second)
	if err != nil {
		return nil, err
	}
	s := &session{conn: conn, in: bufio.NewReaderSize(conn, 1024), secret: make([]byte, 16)}
	if before != nil {
		s.id, s.secret = before.id, before.secret
	}
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
	hello := frame{}.int(0).long(0).int(timeoutMs).long(s.id).bytes(s.secret)
	reply, err := s.exchange(append(hello, 0))
	if err == nil && len(reply) < 36 {
		err = errors.New("no session")
	}
	if err == nil && binary.BigEndian.Uint32(reply[4:]) == 0 {
		err = errors.New("the session has expired")
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	s.id = int64(binary.BigEndian.Uint64(reply[8:]))
	s.secret = slices.Clone(reply[20:36])
	return s, nil
}

func (s *session) send(body frame) error {
	_, err := s.conn.Write(append(frame{}.int(int32(len(body))), body...))
	return err
}

func (s *session) receive() (frame, error) {
	var head [4]byte
	if _, err := io.ReadFull(s.in, head[:]); err != nil {
		return nil, err
	}
	body := make(frame, binary.BigEndian.Uint32(head[:]))
	_, err := io.ReadFull(s.in, body)
	return body, err
}

func (s *session) exchange(body frame) (frame, error) {
	if err := s.send(body); err != nil {
		return nil, err
	}
	return s.receive()
}

func (s *session) request(op int32) frame {
	s.xid++
	return frame{}.int(s.xid).int(op)
}

// answered takes the next reply that is not an event; ZooKeeper's error is an error.
func (s *session) answered() error {
	for {
		reply, err := s.receive()
		if err != nil {
			return err
		}
		if len(reply) < 16 {
			return errors.New("a short reply")
		}
		if int32(binary.BigEndian.Uint32(reply)) < 0 {
			continue // an event, or the answer to a ping
		}
		if code := int32(binary.BigEndian.Uint32(reply[12:])); code != 0 {
			return fmt.Errorf("error %d", code)
		}
		return nil
	}
}

func (s *session) call(body frame) error {
	if err := s.send(body); err != nil {
		return err
	}
	return s.answered()
}

func (s *session) create(path string, data []byte) frame {
	body := s.request(opCreate).bytes([]byte(path)).bytes(data)
	return body.int(1).int(31).bytes([]byte("world")).bytes([]byte("anyone")).int(0)
}

func (s *session) set(path string, data []byte) frame {
	return s.request(opSetData).bytes([]byte(path)).bytes(data).int(-1)
}

func (s *session) get(path string, watch byte) frame {
	return append(s.request(opGetData).bytes([]byte(path)), watch)
}

func (s *session) ping() error { return s.send(frame{}.int(-2).int(opPing)) }

func (s *session) close() {
	_ = s.send(s.request(opClose))
	_, _ = s.receive()
	s.conn.Close()
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "zkload:", err)
		os.Exit(1)
	}
}

func sessions(servers []string, n int) []*session {
	var all []*session
	for i := range n {
		all = append(all, must(dial(servers[i%len(servers)], nil)))
	}
	return all
}

// rate drives each session with one request in flight; a fifth of the time, before it counts, is for warming up.
func rate(servers []string, op string, n int, seconds float64) {
	root, data := fmt.Sprintf("/rate-%d", time.Now().UnixNano()), make([]byte, size)
	all := sessions(servers, n)
	check(all[0].call(all[0].create(root, nil)))
	start := time.Now().Add(time.Duration(seconds / 5 * float64(time.Second)))
	end := start.Add(time.Duration(seconds * float64(time.Second)))
	taken := make([][]uint32, n)
	var failed atomic.Int32
	var working sync.WaitGroup
	for i, s := range all {
		working.Go(func() {
			path := fmt.Sprintf("%s/n%d", root, i)
			check(s.call(s.create(path, data)))
			for {
				begun := time.Now()
				if begun.After(end) {
					return
				}
				body := s.get(path, 0)
				if op == "set" {
					body = s.set(path, data)
				}
				if err := s.call(body); err != nil {
					failed.Add(1)
					return
				}
				if begun.After(start) {
					taken[i] = append(taken[i], uint32(time.Since(begun).Microseconds()))
				}
			}
		})
	}
	working.Wait()
	every := slices.Concat(taken...)
	slices.Sort(every)
	at := func(share float64) uint32 {
		if len(every) == 0 {
			return 0
		}
		return every[int(share*float64(len(every)-1))]
	}
	for _, s := range all {
		s.close()
	}
	fmt.Printf("%.0f %d %d %d\n", float64(len(every))/seconds, at(0.5), at(0.99), failed.Load())
}

// untilWritten asks every server at once, again and again; the first acknowledgement of a write that began after now wins.
func untilWritten(servers []string, known []*session) time.Time {
	won := make(chan time.Time, len(servers))
	for i, server := range servers {
		go func() {
			var s, before *session
			if known != nil {
				s, before = known[i], known[i]
			}
			for n := 0; ; n++ {
				if s == nil {
					var err error
					if s, err = dial(server, before); err != nil {
						if strings.Contains(err.Error(), "expired") {
							before = nil
						}
						time.Sleep(2 * time.Millisecond)
						continue
					}
				}
				before = s
				_ = s.conn.SetDeadline(time.Now().Add(10 * time.Second))
				if err := s.call(s.create(fmt.Sprintf("/written-%d-%d-%d", time.Now().UnixNano(), i, n), nil)); err == nil {
					won <- time.Now()
					return
				}
				s.conn.Close()
				s = nil
			}
		}()
	}
	select {
	case at := <-won:
		return at
	case <-time.After(patience):
		check(errors.New("nothing was written"))
		return time.Time{}
	}
}

func afterKill(pid int, servers []string) {
	known := sessions(servers, len(servers))
	for i, s := range known {
		check(s.call(s.create(fmt.Sprintf("/before-%d-%d", time.Now().UnixNano(), i), nil)))
	}
	check(syscall.Kill(pid, syscall.SIGKILL))
	killed := time.Now()
	fmt.Println(untilWritten(servers, known).Sub(killed).Milliseconds())
}

// many sends n requests from every one of some sessions' shares, 128 of each in flight.
func many(all []*session, n int, body func(s *session, i int) frame) {
	var working sync.WaitGroup
	for k, s := range all {
		working.Go(func() {
			flight := make(chan struct{}, 128)
			mine := 0
			for i := k; i < n; i += len(all) {
				mine++
			}
			go func() {
				for i := k; i < n; i += len(all) {
					flight <- struct{}{}
					check(s.send(body(s, i)))
				}
			}()
			for range mine {
				check(s.answered())
				<-flight
			}
		})
	}
	working.Wait()
}

func fill(servers []string, n int) {
	all := sessions(servers, 3)
	check(all[0].call(all[0].create("/fill", nil)))
	data := make([]byte, size)
	many(all, n, func(s *session, i int) frame { return s.create(fmt.Sprintf("/fill/n%07d", i), data) })
	for _, s := range all {
		s.close()
	}
}

// hold keeps sessions alive until our input ends.
func hold(all []*session, told string) {
	for _, s := range all {
		go func() { _, _ = io.Copy(io.Discard, s.in) }()
	}
	fmt.Println(told)
	over := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(over)
	}()
	for {
		for _, s := range all {
			_ = s.ping()
		}
		select {
		case <-over:
			return
		case <-time.After(timeoutMs / 3 * time.Millisecond):
		}
	}
}

func idle(servers []string, n int) {
	all := make([]*session, n)
	var next atomic.Int32
	var working sync.WaitGroup
	for range 32 {
		working.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				all[i] = must(dial(servers[i%len(servers)], nil))
			}
		})
	}
	working.Wait()
	hold(all, fmt.Sprintf("ready %d", n))
}

func main() {
	arg := func(n int) string {
		if len(os.Args) <= n {
			check(errors.New("words are missing: see the head of zkload.go"))
		}
		return os.Args[n]
	}
	number := func(n int) int { return must(strconv.Atoi(arg(n))) }
	servers := strings.Split(arg(2), ",")
	switch arg(1) {
	case "rate":
		rate(servers, arg(3), number(4), must(strconv.ParseFloat(arg(5), 64)))
	case "first":
		since := time.UnixMilli(int64(number(3)))
		fmt.Println(untilWritten(servers, nil).Sub(since).Milliseconds())
	case "after-kill":
		afterKill(number(2), strings.Split(arg(3), ","))
	case "fill":
		fill(servers, number(3))
	case "watch":
		all := sessions(servers, 10)
		many(all, number(3), func(s *session, i int) frame { return s.get(fmt.Sprintf("/fill/n%07d", i), 1) })
		hold(all, "ready")
	case "idle":
		idle(servers, number(3))
	default:
		check(errors.New("unknown word: see the head of zkload.go"))
	}
}
