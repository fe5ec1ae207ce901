package ctl

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/jmbarzee/dominion/internal/nearest"
	"github.com/jmbarzee/dominion/topics"
)

// checkVerb refuses a verb that there is none of, before its flags are read:
// they would be found unknown first, which says nothing.
func (a *app) checkVerb(root *cobra.Command) error {
	if len(a.env.Args) > 0 && strings.HasPrefix(a.env.Args[0], "__complete") {
		return nil // the shell's question
	}
	words := a.words(root)
	if len(words) > 1 && words[0] == "help" {
		words = words[1:]
	}
	for c := root; len(words) > 0; words = words[1:] {
		verbs := commandNames(c)
		if len(verbs) == 0 {
			return nil
		}
		if !slices.Contains(verbs, words[0]) {
			return a.noSuch(strings.TrimSpace(strings.TrimPrefix(c.CommandPath(), root.Name())), words[0], verbs)
		}
		c, _, _ = c.Find(words[:1])
	}
	return nil
}

// words returns the arguments that are no flags, as far as can be told
// before the verb's own flags are known.
func (a *app) words(root *cobra.Command) []string {
	var words []string
	for i, arg := range a.env.Args {
		if arg == "--" {
			break
		}
		if !strings.HasPrefix(arg, "-") && (i == 0 || !takesValue(root, a.env.Args[i-1])) {
			words = append(words, arg)
		}
	}
	return words
}

func commandNames(parent *cobra.Command) []string {
	var all []string
	for _, c := range parent.Commands() {
		all = append(append(all, c.Name()), c.Aliases...)
	}
	return all
}

func (a *app) noSuch(parent, name string, verbs []string) error {
	hint := "there are: " + strings.Join(verbs, ", ")
	if near := nearestName(strings.ToLower(name), verbs); near != "" {
		hint = "did you mean: " + a.instead(name, near)
	}
	return fail(ExitUsage, hint, "there is no verb %q", strings.TrimSpace(parent+" "+name))
}

// takesValue reports whether the argument after flag is its value.
func takesValue(root *cobra.Command, flag string) bool {
	name, ok := strings.CutPrefix(flag, "--")
	f := root.PersistentFlags().Lookup(name)
	return ok && f != nil && f.NoOptDefVal == ""
}

// flagError returns the error of a wrong flag, with a hint.
func (a *app) flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var missing *pflag.ValueRequiredError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown):
		if isNumber(unknown.GetSpecifiedName()) { // a negative one reads as a flag
			return fail(ExitUsage, "0 is the least", "-%s is not a number that it takes", unknown.GetSpecifiedName())
		}
		if unknown.GetSpecifiedShortnames() != "" {
			return fail(ExitUsage, cmd.CommandPath()+" --help lists the flags", "there is no flag -%s", unknown.GetSpecifiedName())
		}
		var known []string
		add := func(f *pflag.Flag) { known = append(known, "--"+f.Name) }
		cmd.Flags().VisitAll(add)
		cmd.InheritedFlags().VisitAll(add)
		flag := "--" + unknown.GetSpecifiedName()
		hint := cmd.CommandPath() + " --help lists the flags"
		if near := nearestName(flag, known); near != "" {
			hint = "did you mean: " + a.instead(flag, near)
		}
		return fail(ExitUsage, hint, "there is no flag %s", flag)
	case errors.As(err, &missing):
		return fail(ExitUsage, "write it after the flag", "the flag --%s needs a value", missing.GetFlag().Name)
	case errors.As(err, &invalid):
		flag, value := invalid.GetFlag(), invalid.GetValue()
		hint := cmd.CommandPath() + " --help says what it takes"
		unit := map[string]string{"duration": "s", "time": "m"}[flag.Value.Type()]
		if _, err := strconv.ParseFloat(value, 64); err == nil && unit != "" {
			hint = "did you mean: " + a.instead(value, value+unit)
		}
		return fail(ExitUsage, hint, "--%s cannot be %q", flag.Name, value)
	}
	return fail(ExitUsage, cmd.CommandPath()+" --help lists the flags", "%v", err)
}

// names says what a verb's arguments are; those in brackets may be left out.
type names []string

// check refuses what cannot be the arguments of a verb.
func (a *app) check(want names) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		usage := cmd.CommandPath() + strings.Repeat(" ", min(1, len(want))) + strings.Join(want, " ")
		if len(args) > len(want) {
			what := "no arguments"
			if len(want) > 0 {
				what = "no more than " + strings.Join(want, " ")
			}
			return fail(ExitUsage, "did you mean: "+a.without(args[len(want):]...), "%s takes %s", cmd.Name(), what)
		}
		for i, w := range want {
			name := strings.Trim(w, "[]")
			if i >= len(args) {
				if w == name {
					return fail(ExitUsage, "write: "+usage+missingHint(name), "%s needs %s", cmd.Name(), article(name))
				}
				continue
			}
			if name == "N" {
				if err := a.checkNumber(args, i); err != nil {
					return err
				}
				continue
			}
			if i+1 < len(want) && want[i+1] == "N" && isNumber(args[i]) && i+1 < len(args) && topics.ValidName(args[i+1]) && !isNumber(args[i+1]) {
				return fail(ExitUsage, "did you mean: "+cmd.CommandPath()+" "+args[i+1]+" "+args[i], "the name comes before the number")
			}
			// Users, clients and topics are named as their owners like.
			if (name == "SERVICE" || name == "DOMAIN" || name == "SERVICE|DOMAIN") && !topics.ValidName(args[i]) {
				return a.badName(args[i], strings.ReplaceAll(strings.ToLower(name), "|", " or a "))
			}
		}
		return nil
	}
}

func (a *app) badName(name, of string) error {
	hint := "a name has a-z, 0-9 and - only, 63 at most, no - at the ends"
	if lower := strings.Trim(strings.ToLower(strings.ReplaceAll(name, "_", "-")), "-"); topics.ValidName(lower) {
		hint = "did you mean: " + a.instead(name, lower)
	}
	return fail(ExitUsage, hint, "%q cannot be the name of a %s", name, of)
}

// maxReplicas is more than any home has domains.
const maxReplicas = 10000

func (a *app) checkNumber(args []string, i int) error {
	n, err := strconv.Atoi(args[i])
	if err != nil || n < 0 || n > maxReplicas {
		return fail(ExitUsage, fmt.Sprintf("write 1 to %d, or 0 for what the configuration says", maxReplicas), "%q is not a valid number of domains", args[i])
	}
	return nil
}

func isNumber(s string) bool {
	_, err := strconv.Atoi(s)
	return err == nil
}

func article(name string) string {
	switch name {
	case "N":
		return "a number"
	case "TOPIC":
		return "a topic"
	case "ROLE":
		return "a role"
	case "publish|subscribe":
		return "an action, publish or subscribe"
	case "NAME":
		return "the name of a machine that waits"
	case "ID":
		return "the id of a token"
	case "CLIENT|TOPIC":
		return "the identifier of a client, or a topic"
	}
	return "the name of a " + strings.ReplaceAll(strings.ToLower(name), "|", " or a ")
}

func missingHint(name string) string {
	switch name {
	case "SERVICE":
		return " (dominionctl services lists them)"
	case "DOMAIN":
		return " (dominionctl domains lists them)"
	case "NAME":
		return " (dominionctl status lists them)"
	case "ID":
		return " (dominionctl token list lists them)"
	}
	return ""
}

// nearestName returns the known name that was probably meant, or "".
func nearestName(name string, known []string) string {
	return nearest.Find(name, known, min(3, (len(strings.Trim(name, "-"))+1)/2))
}

// instead returns the command line with one argument replaced.
func (a *app) instead(old, replacement string) string {
	args := slices.Clone(a.env.Args)
	for i := len(args) - 1; i >= 0; i-- {
		if args[i] == old {
			args[i] = replacement
			break
		}
		if rest, ok := strings.CutPrefix(args[i], old+"="); ok {
			args[i] = replacement + "=" + rest
			break
		}
		if flag, ok := strings.CutSuffix(args[i], "="+old); ok {
			args[i] = flag + "=" + replacement
			break
		}
	}
	return commandLine(args)
}

// without returns the command line without the last of each of these
// arguments.
func (a *app) without(drop ...string) string {
	args := slices.Clone(a.env.Args)
	for _, d := range drop {
		for i := len(args) - 1; i >= 0; i-- {
			if args[i] == d {
				args = slices.Delete(args, i, i+1)
				break
			}
		}
	}
	return commandLine(args)
}

// commandLine writes arguments as a shell reads them.
func commandLine(args []string) string {
	words := []string{"dominionctl"}
	for _, arg := range args {
		words = append(words, commandWord(arg))
	}
	return strings.Join(words, " ")
}

// commandWord writes one argument as a shell reads it.
func commandWord(arg string) string {
	special := func(r rune) bool {
		return r > 127 || !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:=@%+,-", r)
	}
	if arg == "" || strings.ContainsFunc(arg, special) {
		return "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
	}
	return arg
}

// seconds writes a duration for a sentence.
func seconds(d time.Duration) string {
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	if d < 10*time.Second {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}
