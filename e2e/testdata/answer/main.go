// Command answer is the service of the end-to-end tests: it answers HTTP on
// its port and writes into a journal when it started, became ready, was told
// to stop and ended, so that a test need not believe what others say of it.
//
//	/        its pid, arguments and environment as JSON
//	/health  200, or 503 before READY_AFTER and while the file "sick" exists
//	         in its data directory
//	/say?line=…  writes the line to standard output
package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: answer JOURNAL")
		os.Exit(2)
	}
	journal, err := os.OpenFile(os.Args[1], os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		fmt.Fprintln(os.Stderr, "answer:", err)
		os.Exit(1)
	}
	write := func(what string) {
		fmt.Fprintf(journal, "%d %s %s %s %d\n", time.Now().UnixNano(), what, os.Getenv("SERVICE_NAME"), os.Getenv("DOMAIN_NAME"), os.Getpid())
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM) // first: who reads of the start may stop it
	started := time.Now()
	write("start")
	fmt.Println("started", os.Getenv("SERVICE_NAME"))

	if os.Getenv("CRASH") != "" {
		fmt.Fprintln(os.Stderr, "the last words of a crash")
		write("crash")
		os.Exit(3)
	}
	listener, err := net.Listen("tcp", ":"+os.Getenv("SERVICE_PORT"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "answer:", err)
		os.Exit(1)
	}
	var once sync.Once
	readyAfter, _ := time.ParseDuration(os.Getenv("READY_AFTER"))
	http.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) {
		if _, err := os.Stat(filepath.Join(os.Getenv("SERVICE_DATA_DIR"), "sick")); err == nil || time.Since(started) < readyAfter {
			http.Error(w, "not well", http.StatusServiceUnavailable)
			return
		}
		once.Do(func() { write("ready") })
	})
	http.HandleFunc("/say", func(_ http.ResponseWriter, r *http.Request) { fmt.Println(r.FormValue("line")) })
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		environment := make(map[string]string)
		for _, kv := range os.Environ() {
			k, v, _ := strings.Cut(kv, "=")
			environment[k] = v
		}
		json.NewEncoder(w).Encode(map[string]any{"pid": os.Getpid(), "environment": environment})
	})
	go http.Serve(listener, nil)

	<-stop
	write("stop")
	if d, err := time.ParseDuration(os.Getenv("STOP_AFTER")); err == nil {
		time.Sleep(d)
	}
	write("end")
}
