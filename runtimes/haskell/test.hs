import qualified Data.Map as Map

main :: IO ()
main = putStrLn (concat (Map.elems (Map.fromList [(2 :: Int, "K"), (1, "O")])))
