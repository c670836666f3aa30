# elvish completion for `git-orchestra` and `git orchestra`.
# `git orchestra completion elvish` prints this file; the program itself knows the candidates.

use str

fn git-orchestra-candidates {|@words|
  git-orchestra __complete -- $@words 2>/dev/null | each {|line|
    var value @help = (str:split &max=2 "\t" $line)
    edit:complex-candidate $value &display=$value(if (> (count $help) 0) { put '  ('$help[0]')' } else { put '' })
  }
}

set edit:completion:arg-completer[git-orchestra] = {|@words| git-orchestra-candidates $@words[1..] }

var git-orchestra-git-before = {|@words| edit:complete-filename $words[-1] }
if (has-key $edit:completion:arg-completer git) {
  set git-orchestra-git-before = $edit:completion:arg-completer[git]
}
set edit:completion:arg-completer[git] = {|@words|
  if (and (> (count $words) 2) (eq $words[1] orchestra)) {
    git-orchestra-candidates $@words[2..]
  } else {
    $git-orchestra-git-before $@words
  }
}
