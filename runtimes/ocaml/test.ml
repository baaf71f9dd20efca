let () = print_endline (String.concat "" (List.rev [ "K"; "O" ]))
