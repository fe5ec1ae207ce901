package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestBrightness(t *testing.T) {
	h := handler()
	ask := func(method, path, body string) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
		return w.Code, strings.TrimSpace(w.Body.String())
	}
	for _, step := range []struct {
		method, path, body string
		code               int
		answer             string
	}{
		{"GET", "/health", "", http.StatusOK, "ok"},
		{"GET", "/brightness", "", http.StatusOK, "50"},
		{"PUT", "/brightness", "80\n", http.StatusOK, ""},
		{"GET", "/brightness", "", http.StatusOK, "80"},
		{"PUT", "/brightness", "101", http.StatusBadRequest, "a brightness is a number from 0 to 100"},
		{"PUT", "/brightness", "dark", http.StatusBadRequest, "a brightness is a number from 0 to 100"},
		{"GET", "/brightness", "", http.StatusOK, "80"},
	} {
		code, answer := ask(step.method, step.path, step.body)
		if code != step.code || answer != step.answer {
			t.Errorf("%s %s %q: %d %q, want %d %q", step.method, step.path, step.body, code, answer, step.code, step.answer)
		}
	}
}
