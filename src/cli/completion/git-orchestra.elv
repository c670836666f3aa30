# elvish completion for `git-orchestra` and `git orchestra`.
# @HEADER@

use str

fn git-orchestra-candidates {|@words|
  git-orchestra __complete -- $@words 2>/dev/null | each {|line|
    var value @help = (str:split &max=2 "\t" $line)
    var display = $value
    if (> (count $help) 0) { set display = $value'  ('$help[0]')' }
    edit:complex-candidate $value &display=$display
  }
}

set edit:completion:arg-completer[git-orchestra] = {|@words| git-orchestra-candidates (all $words[1..]) }

var git-orchestra-git-before = {|@words| edit:complete-filename $words[-1] }
if (has-key $edit:completion:arg-completer git) {
  set git-orchestra-git-before = $edit:completion:arg-completer[git]
}
set edit:completion:arg-completer[git] = {|@words|
  if (and (> (count $words) 2) (eq $words[1] orchestra)) {
    git-orchestra-candidates (all $words[2..])
  } else {
    $git-orchestra-git-before $@words
  }
}
