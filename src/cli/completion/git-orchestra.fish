# fish completion for `git-orchestra` and `git orchestra`.
# @HEADER@

function __git_orchestra_candidates
    set -l words (commandline -opc)
    # `git [options] orchestra …` or `git-orchestra …`
    set -l program git-orchestra
    if string match -qr '(^|/)git$' -- $words[1]
        set -l at (contains -i -- orchestra $words); or return
        set words $words[(math $at + 1)..-1]
    else
        set program $words[1]
        set -e words[1]
    end
    $program __complete -- $words (commandline -ct) 2>/dev/null
end

complete -c git-orchestra -f -a '(__git_orchestra_candidates)'
complete -c git -n 'contains -- orchestra (commandline -opc)' -f -a '(__git_orchestra_candidates)'
