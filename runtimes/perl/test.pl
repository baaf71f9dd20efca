use strict;
use warnings;
use List::Util qw(reduce);

print reduce { $a . $b } qw(O K);
print "\n";
