(require '[clojure.string :as string])

(println (string/join (map :text (sort-by :place [{:place 2 :text "K"} {:place 1 :text "O"}]))))
