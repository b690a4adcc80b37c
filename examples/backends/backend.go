// A backend for Postern, with github.com/mattn/go-sqlite3: POSTERN_SECRET=whsec_… DATABASE=game.db PORT=7000 go run backend.go
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/base64"
	"encoding/json"
	_ "github.com/mattn/go-sqlite3"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

//go:embed *.sql
var files embed.FS
var whole = regexp.MustCompile(`^([0-9]{1,9})(\.0+)?$`) // of an amount, a text: never make a float of it

// verified tells whether the gateway signed these bytes, a short time ago (Standard Webhooks).
func verified(h http.Header, body []byte) (matches bool) {
	for _, secret := range strings.Fields(os.Getenv("POSTERN_SECRET")) { // two while one replaces the other
		mac := hmac.New(sha256.New, must(base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))))
		mac.Write([]byte(h.Get("webhook-id") + "." + h.Get("webhook-timestamp") + "." + string(body)))
		expected := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
		for _, one := range strings.Fields(h.Get("webhook-signature")) {
			matches = matches || hmac.Equal([]byte(one), []byte(expected))
		}
	}
	sent, _ := strconv.ParseInt(h.Get("webhook-timestamp"), 10, 64)
	return matches && time.Since(time.Unix(sent, 0)).Abs() <= 5*time.Minute
}

// record stores the event, and what it does to a balance, in one transaction: both, or neither.
func record(db *sql.DB, body []byte) {
	var e struct {
		ID, Source, Transaction, Kind, Effect, Amount string
		User, Item, Reverses                          *string
		Test                                          bool
	}
	must(0, json.Unmarshal(body, &e))
	digits := append(whole.FindStringSubmatch(e.Amount), "", "0")[1] // "0" if the text is no whole number
	tx := must(db.Begin())
	defer tx.Rollback() // does nothing after the commit
	row := must(tx.Exec("INSERT OR IGNORE INTO event VALUES (?,?,?,?,?,?,?,?,?,?,?,'new')",
		e.ID, e.Source, e.Transaction, e.Kind, e.Effect, e.Test, e.User, e.Item, must(strconv.Atoi(digits)), e.Reverses, string(body)))
	if must(row.RowsAffected()) == 1 { // otherwise a retry or a replay
		must(tx.Exec(string(must(files.ReadFile("settle.sql"))), e.ID, e.ID, e.ID, e.ID))
	}
	must(0, tx.Commit())
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err) // net/http logs it and closes the connection. No 2xx: the gateway retries
	}
	return value
}

func main() {
	db := must(sql.Open("sqlite3", "file:"+os.Getenv("DATABASE")+"?_txlock=immediate&_busy_timeout=10000"))
	must(db.Exec(string(must(files.ReadFile("schema.sql")))))
	must(0, http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(http.MaxBytesReader(w, r.Body, 1024*1024)) // what is over 1 MiB is cut, and does not verify
		if verified(r.Header, body) {                                    // these bytes were signed, before any parser
			record(db, body)
			w.WriteHeader(http.StatusNoContent) // only now: it is in the database
		} else {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})))
}
