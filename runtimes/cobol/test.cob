identification division.
program-id. self-test.
data division.
working-storage section.
01 answer pic x(2) value "OK".
procedure division.
    display answer.
    stop run.
