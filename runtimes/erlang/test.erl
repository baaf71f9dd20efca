main(_) ->
    Self = self(),
    spawn(fun() -> Self ! lists:concat(["O", "K"]) end),
    receive Answer -> io:format("~s~n", [Answer]) end.
