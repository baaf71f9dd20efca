<?php
declare(strict_types=1);

$join = fn (string ...$parts): string => implode('', $parts);
echo $join('O', 'K'), "\n";
