#!/bin/sh
# Stands before the compiler proper: the driver looks for it in COMPILER_PATH first. Where a source begins with a standard header
# that was compiled ahead, the compiler gets to see that; for everything else it runs as if this were not here.
#
# The compiler itself checks that a precompiled header fits (its own checksum, flags, macros), and takes the text where not.
# All that differs is names in what it says: the header's own, which it finds in our place (a copy stands there, for a source may
# include it again), and that of the file that included it when it was compiled ahead. They are put right here.
compiler=@COMPILER@
headers=${0%/*}/headers

# The source is the word before the second -quiet.
source='' before='' quiet=''
for word; do
    if [ "$word" = -quiet ]; then
        [ -n "$quiet" ] && source=$before
        quiet=yes
    fi
    before=$word
done
[ -f "$source" ] || exec "$compiler" "$@"

# Its first line that is neither empty, nor a comment, nor a macro. What is hard to read without a preprocessor ends the search.
line=0 header='' comment='' return=$(printf '\r')
while IFS= read -r text; do
    line=$((line + 1))
    text=${text%"$return"}
    text=${text#"${text%%[! 	]*}"}
    if [ -n "$comment" ]; then
        case $text in
            *'*/') comment='' ;;
            *'*/'*) break ;;
        esac
        continue
    fi
    case $text in
        *\\*) break ;;
        '' | //*) ;;
        '/*'*'*/') ;;
        '/*'*'*/'*) break ;;
        '/*'*) comment=yes ;;
        *'/*'*) break ;;
        '#define '* | '#undef '*) ;;
        '#include'*)
            text=${text#'#include'}
            text=${text#"${text%%[! 	]*}"}
            case $text in
                '<'*'>'*)
                    header=${text#<}
                    header=${header%%>*}
                    ;;
            esac
            break
            ;;
        *) break ;;
    esac
done < "$source"
place=$headers/$header
[ -n "$header" ] && [ -f "$place/$header.gch" ] && read -r system < "$place/system" || exec "$compiler" "$@"

exec 3>&1
status=$(
    {
        {
            CPLUS_INCLUDE_PATH=$place "$compiler" "$@" 2>&1 >&3 3>&- 4>&-
            echo $? >&4
        } | while IFS= read -r text || [ -n "$text" ]; do
            case $text in
                *'from @INCLUDER@:1:') text="${text%'@INCLUDER@:1:'}$source:$line:" ;;
                *"$place/"*) text="${text%%"$place/"*}$system/${text#*"$place/"}" ;;
            esac
            printf '%s\n' "$text"
        done >&2
    } 4>&1
)
# The driver tells people which signal ended the compiler.
[ "$status" -gt 128 ] && kill -$((status - 128)) $$
exit "$status"
