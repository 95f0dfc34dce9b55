package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"time"
)

func routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/big", big)
	mux.HandleFunc("POST /sum", sum)
	mux.HandleFunc("/slow", slow)
	mux.HandleFunc("POST /bidi", bidi)
	mux.HandleFunc("/upgrade", upgrade)
	mux.HandleFunc("/", describe)
	return mux
}

// describe answers with what the server saw, so that a test can prove which pod got
// which request, and from whom.
func describe(w http.ResponseWriter, r *http.Request) {
	hostname, _ := os.Hostname()
	pod := os.Getenv("POD_NAME")
	if pod == "" {
		pod = hostname
	}
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	w.Header().Set("Content-Type", "application/json")
	answer := json.NewEncoder(w)
	answer.SetIndent("", "  ")
	_ = answer.Encode(map[string]any{
		"pod":      pod,
		"hostname": hostname,
		"method":   r.Method,
		"path":     r.URL.RequestURI(),
		"host":     r.Host,
		"protocol": r.Proto,
		"remote":   r.RemoteAddr,
		"headers":  r.Header,
		"body":     string(body),
	})
}

// big streams ?bytes=N bytes, the same ones every time: ChaCha8 with a zero seed.
func big(w http.ResponseWriter, r *http.Request) {
	wanted, err := strconv.ParseInt(r.URL.Query().Get("bytes"), 10, 64)
	if err != nil || wanted < 0 {
		http.Error(w, "/big?bytes=N", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(wanted, 10))
	_, _ = io.CopyN(w, rand.NewChaCha8([32]byte{}), wanted)
}

// sum answers with the SHA-256 and the length of the request's body.
func sum(w http.ResponseWriter, r *http.Request) {
	digest := sha256.New()
	length, err := io.Copy(digest, r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprintf(w, "%s %d\n", hex.EncodeToString(digest.Sum(nil)), length)
}

// bidi sends back each piece of the request's body as it comes, and a trailer at the end, as
// a gRPC method with streams both ways does. The first line says which pod it is.
func bidi(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Trailer", "Grpc-Status")
	control := http.NewResponseController(w)
	_ = control.EnableFullDuplex()
	fmt.Fprintln(w, os.Getenv("POD_NAME"))
	_ = control.Flush()
	piece := make([]byte, 32<<10)
	for {
		n, err := r.Body.Read(piece)
		if n > 0 {
			_, _ = w.Write(piece[:n])
			_ = control.Flush()
		}
		if err != nil {
			break
		}
	}
	w.Header().Set("Grpc-Status", "0")
}

// upgrade changes to whatever protocol is asked for, and echoes what comes in it. The answer's
// header says which pod it is. Where none is asked for, it is a page as others are.
func upgrade(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") == "" {
		describe(w, r)
		return
	}
	stream, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	defer stream.Close()
	fmt.Fprintf(stream, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\nPod: %s\r\n\r\n",
		r.Header.Get("Upgrade"), os.Getenv("POD_NAME"))
	_, _ = io.Copy(stream, buffered)
}

// slow answers ?ms=N late (5 s unless told), or not at all when the client leaves.
func slow(w http.ResponseWriter, r *http.Request) {
	delay := 5 * time.Second
	if millis, err := strconv.Atoi(r.URL.Query().Get("ms")); err == nil {
		delay = time.Duration(millis) * time.Millisecond
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		fmt.Fprintln(w, "at last")
	case <-r.Context().Done():
	}
}
