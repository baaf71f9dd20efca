#lang racket
(displayln (string-join (sort '("K" "O") string>?) ""))
