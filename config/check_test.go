package config

import (
	"errors"
	"path/filepath"
	"testing"
)

// A check asks for the files that are named; a start does not.
func TestCheckLooksForFiles(t *testing.T) {
	file := write(t, `
[broker]
listen_tls = ":8883"
cert_file = "cert.pem"
key_file = "config.toml"

[[broker.users]]
name = "me"
role = "admin"
password_file = "/nope/me"

[services.web]
environment_file = "/nope/on-the-domain"
`)
	if _, err := LoadDominion(file, nil); err != nil {
		t.Error(err)
	}
	missing := filepath.Join(filepath.Dir(file), "cert.pem")
	var faults Faults
	if err := CheckDominion(file, nil); !errors.As(err, &faults) {
		t.Fatalf("nothing is wrong: %v", err)
	}
	const hint = "write the path of one that is there"
	equal(t, faults, Faults{
		{File: file, Line: 4, Key: "broker.cert_file", Message: "there is no file " + missing, Hint: hint},
		{File: file, Line: 10, Key: "broker.users[0].password_file", Message: "there is no file /nope/me", Hint: hint},
	})

	file = write(t, "hub = \"mqtts://hub:8883\"\nuser = \"pi\"\npassword_file = \"pw\"\ncafile = \"config.toml\"\nservices_dir = \"nowhere\"\n")
	if _, err := LoadDomain(file, nil); err != nil {
		t.Error(err)
	}
	if err := CheckDomain(file, nil); !errors.As(err, &faults) || len(faults) != 1 || faults[0].Key != "password_file" {
		t.Errorf("got %v", err)
	}

	file = write(t, "run_as = \"nobody-of-here\"\n")
	if _, err := LoadDomain(file, nil); err != nil {
		t.Error(err)
	}
	if err := CheckDomain(file, nil); !errors.As(err, &faults) || len(faults) != 1 || faults[0].Message != `there is no user "nobody-of-here" here` {
		t.Errorf("got %v", err)
	}
	for _, name := range []string{"root", "0"} {
		if err := CheckDomain(write(t, "run_as = \""+name+"\"\n"), nil); err != nil {
			t.Errorf("got %v", err)
		}
	}
}
