package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/bundle"
	"github.com/jmbarzee/dominion/topics"
)

// errUnknownClient is the answer to who may not do what was asked, or is nobody.
var errUnknownClient = errors.New("log in as a user of the role admin")

// handler serves the distribution API.
type handler struct {
	*Registry
	who func(*http.Request) (Client, error)
}

// Handler serves /v2/. who returns the client of a request, or why it is refused: the
// answer is 401 then. A request with an Origin comes from a page in a browser, and is
// refused.
func (r *Registry) Handler(who func(*http.Request) (Client, error)) http.Handler {
	h := handler{r, who}
	mux := http.NewServeMux()
	for pattern, serve := range map[string]func(w http.ResponseWriter, q *http.Request) error{
		"GET /v2/{$}": func(http.ResponseWriter, *http.Request) error { return nil },
		"GET /v2/{repository}/manifests/{reference}": h.getManifest,
		"PUT /v2/{repository}/manifests/{reference}": h.putManifest,
		"GET /v2/{repository}/blobs/{digest}":        h.getBlob,
		"POST /v2/{repository}/blobs/uploads/{$}":    h.postUpload,
		"GET /v2/{repository}/blobs/uploads/{id}":    h.getUpload,
		"PATCH /v2/{repository}/blobs/uploads/{id}":  h.patchUpload,
		"PUT /v2/{repository}/blobs/uploads/{id}":    h.putUpload,
		"DELETE /v2/{repository}/blobs/uploads/{id}": h.deleteUpload,
		"GET /v2/{repository}/tags/list":             h.getTags,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, q *http.Request) {
			if c, err := h.admit(q); err != nil {
				refuse(w, err)
			} else if err := serve(w, q.WithContext(context.WithValue(q.Context(), clientKey{}, c))); err != nil {
				refuse(w, err)
			}
		})
	}
	mux.HandleFunc("/v2/", func(w http.ResponseWriter, q *http.Request) {
		if _, err := h.admit(q); err != nil {
			refuse(w, err)
			return
		}
		refuse(w, &apiError{http.StatusNotFound, "UNSUPPORTED", "the registry has no " + q.Method + " of this path: a repository is the name of a service, as HOST:8443/web"})
	})
	return mux
}

// clientKey is the key of a request's Client in its context.
type clientKey struct{}

// admit returns who sends a request, or why it is refused whatever it asks.
func (h handler) admit(q *http.Request) (Client, error) {
	if q.Header.Get("Origin") != "" {
		return Client{}, &apiError{http.StatusForbidden, "DENIED", "pages in browsers have no access to the registry"}
	}
	c, err := h.who(q)
	if err != nil {
		return Client{}, &apiError{http.StatusUnauthorized, "UNAUTHORIZED", err.Error()}
	}
	if !c.Admin && (c.Domain == "" || q.Method != http.MethodGet && q.Method != http.MethodHead) {
		return Client{}, &apiError{http.StatusForbidden, "DENIED", errUnknownClient.Error()}
	}
	return c, nil
}

// clientOf returns who sends a request that was admitted.
func clientOf(q *http.Request) Client {
	c, _ := q.Context().Value(clientKey{}).(Client)
	return c
}

// repository returns the service that a request names.
func repository(q *http.Request) (string, error) {
	name := q.PathValue("repository")
	if !topics.ValidName(name) {
		return "", &apiError{http.StatusBadRequest, "NAME_INVALID", fmt.Sprintf("%.80q is not the name of a service: use a-z, 0-9 and -, 63 characters at most", name)}
	}
	return name, nil
}

// apiError is an error with its code of the distribution specification.
type apiError struct {
	status        int
	code, message string
}

func (e *apiError) Error() string { return e.message }

// refuse answers with an error.
func refuse(w http.ResponseWriter, err error) {
	e := new(apiError)
	switch {
	case errors.As(err, &e):
	case errors.Is(err, ErrNotFound), errors.Is(err, errUpload):
		e = &apiError{http.StatusNotFound, "BLOB_UNKNOWN", err.Error()}
	case errors.Is(err, ErrFull):
		e = &apiError{http.StatusInsufficientStorage, "DENIED", err.Error()}
	case errors.Is(err, ErrTagged):
		e = &apiError{http.StatusConflict, "TAG_INVALID", err.Error()}
	case errors.Is(err, errRange):
		e = &apiError{http.StatusRequestedRangeNotSatisfiable, "BLOB_UPLOAD_INVALID", err.Error()}
	case errors.Is(err, errDigest):
		e = &apiError{http.StatusBadRequest, "DIGEST_INVALID", err.Error()}
	default:
		e = &apiError{http.StatusInternalServerError, "UNKNOWN", err.Error()}
	}
	type one struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	text, _ := json.Marshal(map[string][]one{"errors": {{e.code, e.message}}}) // two texts can always be encoded
	if e.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="dominion", charset="UTF-8"`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.status)
	_, _ = w.Write(text) // who went away needs no answer
}

// digestOf returns the digest that a text of a request is.
func digestOf(text string) (bundle.Digest, error) {
	d, err := bundle.ParseDigest(text)
	if err != nil {
		return "", &apiError{http.StatusBadRequest, "DIGEST_INVALID", err.Error()}
	}
	return d, nil
}

// getBlob serves a blob, or a range of it.
func (h handler) getBlob(w http.ResponseWriter, q *http.Request) error {
	if _, err := repository(q); err != nil {
		return err
	}
	d, err := digestOf(q.PathValue("digest"))
	if err != nil {
		return err
	}
	c := clientOf(q)
	if !h.mayRead(c, d) {
		return fmt.Errorf("%s: %w", d, ErrNotFound)
	}
	if c.Admin {
		h.touch(d)
	} else if q.Method == http.MethodGet {
		end, ok := h.pull()
		if !ok {
			w.Header().Set("Retry-After", "1")
			return &apiError{http.StatusServiceUnavailable, "TOOMANYREQUESTS", fmt.Sprintf("%d domains pull now: try again in a second", maxPulls)}
		}
		defer end()
	}
	f, err := h.Open(d)
	if err != nil {
		return err
	}
	defer f.Close()
	w.Header().Set("Docker-Content-Digest", string(d))
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Etag", `"`+string(d)+`"`)
	http.ServeContent(slowWriter{w, http.NewResponseController(w)}, q, "", time.Time{}, f)
	return nil
}

// slowWriter gives each piece of an answer a deadline of its own, so that a large blob may
// take its time and a client that does not read does not.
type slowWriter struct {
	http.ResponseWriter
	control *http.ResponseController
}

func (w slowWriter) Write(p []byte) (int, error) {
	_ = w.control.SetWriteDeadline(time.Now().Add(pieceTime)) // one without deadlines has none to extend
	return w.ResponseWriter.Write(p)
}

func (w slowWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// location is the path of an upload.
func location(name, id string) string { return "/v2/" + name + "/blobs/uploads/" + id }

// postUpload begins an upload; with a digest the body is all of it, and with mount a blob that
// another repository has is taken.
func (h handler) postUpload(w http.ResponseWriter, q *http.Request) error {
	name, err := repository(q)
	if err != nil {
		return err
	}
	if mount := q.URL.Query().Get("mount"); mount != "" {
		if d, err := digestOf(mount); err != nil {
			return err
		} else if h.touch(d) {
			return created(w, name, d)
		}
	}
	u, err := h.begin(time.Now())
	if err != nil {
		return err
	}
	if q.URL.Query().Get("digest") != "" {
		if err := h.complete(w, q, name, u); err != nil {
			h.drop(u)
			return err
		}
		return nil
	}
	w.Header().Set("Docker-Upload-Uuid", u.id)
	return h.progress(w, name, u, http.StatusAccepted)
}

// progress answers with what an upload has.
func (h handler) progress(w http.ResponseWriter, name string, u *upload, status int) error {
	u.mu.Lock()
	size := u.size
	u.mu.Unlock()
	w.Header().Set("Location", location(name, u.id))
	w.Header().Set("Range", fmt.Sprintf("0-%d", max(size-1, 0)))
	w.WriteHeader(status)
	return nil
}

func (h handler) getUpload(w http.ResponseWriter, q *http.Request) error {
	name, u, err := h.uploadOf(q)
	if err != nil {
		return err
	}
	return h.progress(w, name, u, http.StatusNoContent)
}

// uploadOf returns the upload that a request names.
func (h handler) uploadOf(q *http.Request) (string, *upload, error) {
	name, err := repository(q)
	if err != nil {
		return "", nil, err
	}
	u, err := h.find(q.PathValue("id"), time.Now())
	if err != nil {
		return "", nil, &apiError{http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", err.Error()}
	}
	return name, u, nil
}

// begins returns where the bytes of a request begin, -1: it does not say.
func begins(q *http.Request) (int64, error) {
	text := strings.TrimPrefix(q.Header.Get("Content-Range"), "bytes ")
	if text == "" {
		return -1, nil
	}
	var from, to int64
	if n, err := fmt.Sscanf(text, "%d-%d", &from, &to); n != 2 || err != nil || from < 0 || to < from {
		return 0, fmt.Errorf("%w: Content-Range %.60q", errRange, text)
	}
	return from, nil
}

func (h handler) patchUpload(w http.ResponseWriter, q *http.Request) error {
	name, u, err := h.uploadOf(q)
	if err != nil {
		return err
	}
	from, err := begins(q)
	if err == nil {
		err = h.add(u, from, q.Body, http.NewResponseController(w))
	}
	if err != nil {
		return err
	}
	return h.progress(w, name, u, http.StatusAccepted)
}

func (h handler) putUpload(w http.ResponseWriter, q *http.Request) error {
	name, u, err := h.uploadOf(q)
	if err != nil {
		return err
	}
	return h.complete(w, q, name, u)
}

// complete adds the last bytes of an upload, and makes it a blob.
func (h handler) complete(w http.ResponseWriter, q *http.Request, name string, u *upload) error {
	d, err := digestOf(q.URL.Query().Get("digest"))
	if err != nil {
		return err
	}
	from, err := begins(q)
	if err == nil {
		err = h.add(u, from, q.Body, http.NewResponseController(w))
	}
	if err == nil {
		err = h.finish(u, d)
	}
	if err != nil {
		return err
	}
	return created(w, name, d)
}

func created(w http.ResponseWriter, name string, d bundle.Digest) error {
	w.Header().Set("Location", "/v2/"+name+"/blobs/"+string(d))
	w.Header().Set("Docker-Content-Digest", string(d))
	w.WriteHeader(http.StatusCreated)
	return nil
}

func (h handler) deleteUpload(w http.ResponseWriter, q *http.Request) error {
	_, u, err := h.uploadOf(q)
	if err != nil {
		return err
	}
	h.drop(u)
	w.WriteHeader(http.StatusNoContent)
	return nil
}
