# bash completion for `git-orchestra` and `git orchestra`.
# Printed by `git orchestra completion bash`; the candidates come from the program itself.

# __git_orchestra_candidates PROGRAM... : completes the words in __git_orchestra_words, the last one being current.
__git_orchestra_candidates() {
    local last=$((${#__git_orchestra_words[@]} - 1)) line value help prefix=
    local current=${__git_orchestra_words[last]}
    # Readline replaces only what stands behind the last word break.
    case $current in
    *=*) [[ $COMP_WORDBREAKS == *=* ]] && prefix=${current%"${current##*=}"} ;;
    *:*) [[ $COMP_WORDBREAKS == *:* ]] && prefix=${current%"${current##*:}"} ;;
    esac
    COMPREPLY=()
    local shown=()
    while IFS= read -r line; do
        value=${line%%$'\t'*}
        help=${line#"$value"}
        help=${help#$'\t'}
        value=${value#"$prefix"}
        shown+=("$value${help:+  ($help)}")
        [[ $current == [\"\']* ]] || printf -v value %q "$value"
        COMPREPLY+=("$value")
    done < <("$@" __complete -- "${__git_orchestra_words[@]}" 2>/dev/null)
    if [[ ${#COMPREPLY[@]} -eq 1 ]]; then
        # Spaces are ours to add: git asks bash for none, and a directory goes on.
        compopt -o nospace 2>/dev/null
        case ${COMPREPLY[0]} in
        */ | *=) ;;
        *) COMPREPLY[0]+=" " ;;
        esac
    elif [[ ${COMP_TYPE-} == 63 ]]; then
        # A second TAB only lists: then there is room for what each candidate means.
        COMPREPLY=("${shown[@]}")
    fi
}

# Called by git's own completion for `git orchestra`: it provides `words`, `cword`, `__git_cmd_idx` and `__git_C_args`.
_git_orchestra() {
    local __git_orchestra_words=("${words[@]:$((${__git_cmd_idx:-1} + 1)):$((cword - ${__git_cmd_idx:-1}))}")
    __git_orchestra_candidates git ${__git_dir:+--git-dir="$__git_dir"} "${__git_C_args[@]}" orchestra
}

_git_orchestra_main() {
    local __git_orchestra_words=() word glue=
    # Bash breaks words at `=` and `:`; put together again what belongs together.
    for word in "${COMP_WORDS[@]:1:COMP_CWORD}"; do
        if [[ $word == [=:] || -n $glue ]] && [[ ${#__git_orchestra_words[@]} -gt 0 ]]; then
            __git_orchestra_words[${#__git_orchestra_words[@]} - 1]+=$word
            glue=
            [[ $word == [=:] ]] && glue=1
        else
            __git_orchestra_words+=("$word")
        fi
    done
    __git_orchestra_candidates "$1"
}

complete -o bashdefault -o default -F _git_orchestra_main git-orchestra
