parts = {"K", "O"};
printf("%s\n", [fliplr(parts){:}]);
