task = Task.async(fn -> ["o", "k"] |> Enum.map(&String.upcase/1) |> Enum.join() end)
IO.puts(Task.await(task))
