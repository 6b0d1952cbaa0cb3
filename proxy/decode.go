package proxy

import (
	"io"
	"net/http"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

// maxWindow bounds the memory that one zstd answer can ask for (RFC 9659 wants 8 MiB at most).
const maxWindow = 8 << 20

// decoded returns an answer's body in plain bytes. The upstream was asked for identity; one that
// encodes all the same is decoded where we can (RFC 9110, section 8.4.1; RFC 8878), else refused.
// Without a coding it returns res.Body itself.
func decoded(res *http.Response) (io.ReadCloser, error) {
	coding := strings.ToLower(strings.TrimSpace(strings.Join(res.Header["Content-Encoding"], ",")))
	var body io.ReadCloser
	var err error
	if coding == "" || coding == "identity" || res.ContentLength == 0 {
		return res.Body, nil
	}
	switch coding {
	case "gzip", "x-gzip":
		body, err = gzip.NewReader(res.Body)
	case "deflate":
		body, err = zlib.NewReader(res.Body)
	case "zstd":
		var d *zstd.Decoder
		if d, err = zstd.NewReader(res.Body, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow)); err == nil {
			body = d.IOReadCloser()
		}
	default:
		return nil, errCoding
	}
	if err != nil {
		return nil, errCoding
	}
	return body, nil
}
