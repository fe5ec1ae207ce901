// Command web is an example service in Go: it keeps one number, the wanted
// brightness of the home's lamps, and serves it.
//
//	curl http://HOST:PORT/brightness
//	curl -X PUT -d 80 http://HOST:PORT/brightness
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

func main() {
	log.SetFlags(0)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Getenv("LISTEN"), os.Getenv("SERVICE_PORT")); err != nil {
		log.Fatal("cannot serve: ", err)
	}
}

// run serves at an address of this machine, at all of them if that is "": an
// address may change while we run.
func run(ctx context.Context, address, port string) error {
	if port == "" {
		return errors.New("no SERVICE_PORT in the environment")
	}
	server := &http.Server{Addr: net.JoinHostPort(address, port), Handler: handler()}
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		log.Print("told to stop")
		stopped <- server.Close()
	}()
	log.Printf("serving on port %s", port)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}

// handler serves the health check, and a brightness that can be read and set.
func handler() http.Handler {
	var brightness atomic.Int64
	brightness.Store(50)

	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /brightness", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, brightness.Load())
	})
	mux.HandleFunc("PUT /brightness", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, 100))
		percent, parseErr := strconv.Atoi(strings.TrimSpace(string(body)))
		if err != nil || parseErr != nil || percent < 0 || percent > 100 {
			http.Error(w, "a brightness is a number from 0 to 100", http.StatusBadRequest)
			return
		}
		brightness.Store(int64(percent))
		log.Printf("brightness is %d now", percent)
	})
	return mux
}
