:- initialization(main).

main :-
    maplist([Code, Char] >> char_code(Char, Code), [79, 75], Parts),
    atomic_list_concat(Parts, Answer),
    writeln(Answer).
