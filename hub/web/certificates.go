package web

import "net/http"

// certificates serves what others need to verify the hub. It is public: the messages of
// TLS have it too.
func (h Handlers) certificates(mux *http.ServeMux) {
	serve := func(path, kind, file string, content func() []byte) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.Header().Set("Content-Disposition", `attachment; filename="`+file+`"`)
			_, _ = w.Write(content())
		})
	}
	if h.Authority != nil {
		serve("/ca.pem", "application/x-pem-file", "ca.pem", h.Authority)
	}
	if h.BrowserRoot == nil {
		return
	}
	serve("/browser-ca.crt", "application/x-x509-ca-cert", "browser-ca.crt", func() []byte { pem, _ := h.BrowserRoot(); return pem })
	serve("/browser-ca.mobileconfig", "application/x-apple-aspen-config", "browser-ca.mobileconfig", func() []byte { _, profile := h.BrowserRoot(); return profile })
}
