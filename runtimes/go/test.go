package main

import (
	"fmt"
	"strings"
)

type pair[T any] struct{ first, second T }

func main() {
	answer := make(chan string)
	parts := pair[string]{"O", "K"}
	go func() { answer <- strings.Join([]string{parts.first, parts.second}, "") }()
	fmt.Println(<-answer)
}
