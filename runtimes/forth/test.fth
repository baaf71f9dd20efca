: answer ." OK" cr ;
answer
