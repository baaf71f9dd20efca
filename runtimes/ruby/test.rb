require "json"

case JSON.parse('{"parts": ["O", "K"]}', symbolize_names: true)
in { parts: [first, second] }
  puts first + second
end
