# PowerShell completion for `git-orchestra` and `git orchestra`.
# @HEADER@

$__gitOrchestra = {
    param($wordToComplete, $commandAst, $cursorPosition)
    $words = @($commandAst.CommandElements | Where-Object { $_.Extent.StartOffset -lt $cursorPosition } |
        ForEach-Object { $_.Extent.Text })
    if ($words[0] -match '(^|[\\/])git(\.exe)?$') {
        $at = [array]::IndexOf($words, 'orchestra')
        if ($at -lt 0) { return }
        $words = @($words | Select-Object -Skip ($at + 1))
    } else {
        $words = @($words | Select-Object -Skip 1)
    }
    if ($wordToComplete -eq '') { $words += '' }
    git-orchestra __complete '--' @words 2>$null | ForEach-Object {
        $value, $help = $_ -split "`t", 2
        if (-not $help) { $help = $value }
        [System.Management.Automation.CompletionResult]::new($value, $value, 'ParameterValue', $help)
    }
}

Register-ArgumentCompleter -Native -CommandName 'git-orchestra' -ScriptBlock $__gitOrchestra
# posh-git completes `git` by itself, and a command has one completer: where it is loaded, it stays.
if (-not (Get-Module posh-git)) {
    Register-ArgumentCompleter -Native -CommandName 'git' -ScriptBlock $__gitOrchestra
}
