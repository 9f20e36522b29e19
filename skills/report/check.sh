#!/bin/sh
# Names what is still missing in a report: sh check.sh FILE. Ends with 0 when nothing is.
file=${1:?"usage: check.sh FILE"}
[ -r "$file" ] || { echo "$file cannot be read"; exit 2; }
bad=0
complain() { echo "$file: $1"; bad=1; }

head -n 1 "$file" | grep -q '^# ' || complain "the first line is not a title (# ...)"
for section in Summary Findings; do
    grep -q "^## $section\$" "$file" || complain "there is no section '## $section'"
done
for word in TITLE DATE QUESTION 'RESULT IN ONE' '| WHAT |' CONCLUSION 'WHAT IS LIKELY' 'WHAT COULD NOT' 'WHO does WHAT'; do
    grep -qF -- "$word" "$file" && complain "'$word' of the template was not filled in"
done
lines=$(wc -l <"$file")
[ "$lines" -le 120 ] || complain "$lines lines are too many: move raw material into a file beside it"
[ "$bad" -eq 0 ] && echo "$file: fine"
exit "$bad"
