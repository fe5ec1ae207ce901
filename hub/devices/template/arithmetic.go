package template

import (
	"math"
	"math/bits"
	"strings"
)

// arithmetic is "left op right" with Python's semantics.
type arithmetic struct {
	op          string
	left, right node
}

// eval computes with integers where both sides are, with floats or texts otherwise.
func (n arithmetic) eval(e *evaluator) any {
	left, right := e.eval(n.left), e.eval(n.right)
	x, y := number(left), number(right)
	if x != nil && y != nil {
		i, isI := x.(int64)
		j, isJ := y.(int64)
		if isI && isJ && n.op != "/" {
			return integers(n.op, i, j)
		}
		return floats(n.op, floatOf(x), floatOf(y))
	}
	if v, ok := e.sequences(n.op, left, right); ok {
		return v
	}
	failOperand(left, right)
	return nil
}

// sequences are the operations of texts and lists.
func (e *evaluator) sequences(op string, left, right any) (any, bool) {
	switch l := left.(type) {
	case string:
		if r, is := right.(string); is && op == "+" {
			bounded(len(l) + len(r))
			return l + r, true
		}
		if n, is := integerOf(right); is && op == "*" {
			n = max(n, 0)
			if n > maxText {
				bounded(maxText + 1)
			}
			bounded(len(l) * int(n))
			return strings.Repeat(l, int(n)), true
		}
		if op == "%" {
			unsupported("formatting by %%")
		}
	case list:
		if r, is := right.(list); is && op == "+" && l.tuple == r.tuple {
			if len(l.all)+len(r.all) > maxItems {
				unsupported("a list of more than %d elements", maxItems)
			}
			return list{append(append([]any{}, l.all...), r.all...), l.tuple}, true
		}
	}
	if _, is := right.(list); is && op == "*" {
		unsupported("multiplying a list")
	}
	if _, is := left.(list); is && op == "*" {
		unsupported("multiplying a list")
	}
	if s, is := right.(string); is && op == "*" {
		if _, is := integerOf(left); is {
			return e.sequences(op, s, left)
		}
	}
	return nil, false
}

// integers applies an operator to two integers as Python does.
func integers(op string, i, j int64) any {
	switch op {
	case "+":
		if sum := i + j; (sum > i) == (j > 0) {
			return sum
		}
	case "-":
		if difference := i - j; (difference < i) == (j > 0) {
			return difference
		}
	case "*":
		hi, lo := bits.Mul64(uint64(abs(i)), uint64(abs(j)))
		if hi == 0 && lo < 1<<63 && i != math.MinInt64 && j != math.MinInt64 {
			return i * j
		}
	case "//", "%":
		if j == 0 {
			ignored()
		}
		if i == math.MinInt64 {
			break
		}
		quotient, rest := i/j, i%j
		if rest != 0 && (rest < 0) != (j < 0) {
			quotient, rest = quotient-1, rest+j
		}
		if op == "%" {
			return rest
		}
		return quotient
	case "**":
		if j < 0 {
			return floats(op, float64(i), float64(j))
		}
		if j < 64 {
			var power any = int64(1)
			for range j {
				power = integers("*", power.(int64), i) //nolint:forcetypeassert // or it has panicked
			}
			return power
		}
	}
	unsupported("calculating with a number beyond 64 bits")
	return nil
}

func abs(i int64) int64 {
	if i < 0 {
		return -i
	}
	return i
}

func floatOf(v any) float64 {
	if i, is := v.(int64); is {
		return float64(i)
	}
	f, _ := v.(float64)
	return f
}

// floats applies an operator to two floats as Python does.
func floats(op string, x, y float64) any {
	switch op {
	case "+":
		return x + y
	case "-":
		return x - y
	case "*":
		return x * y
	case "**":
		power := math.Pow(x, y)
		if math.IsNaN(power) || math.IsInf(power, 0) || x == 0 && y < 0 {
			unsupported("such a power")
		}
		return power
	}
	if y == 0 {
		ignored()
	}
	if op == "/" {
		return x / y
	}
	rest := math.Mod(x, y)
	if rest != 0 && (rest < 0) != (y < 0) {
		rest += y
	}
	if op == "%" {
		return rest
	}
	return math.Floor((x - rest) / y)
}
