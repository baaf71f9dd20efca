(format t "~a~%" (concatenate 'string (sort (copy-seq '(#\O #\K)) #'char>)))
