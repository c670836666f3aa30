"""The peers that can be installed here, and what each can do of what we do.

crosslink (crates.io) keeps issues in SQLite and, once there is a remote, in a branch that each command pushes by itself;
tbd (npm: get-tbd) keeps a file an issue in a worktree that `tbd sync` commits and pushes. They are installed once into
the ignored `.peers/`, and run with the environment that the benchmark gives them, without a network.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIR = ROOT / ".peers"
CROSSLINK, TBD = "0.8.0", "0.2.3"
TEXT = "A few lines of what is wanted,\nas a person would write them.\n" * 3
MADE = "2026-11-20T12:00:00Z"


def install():
    """Installs what is missing. Returns the directories of their programs; those that cannot be had are left out."""
    wanted = {
        DIR / "bin" / "crosslink": ["cargo", "install", "--quiet", "--locked", "--root", DIR, "--version", CROSSLINK, "crosslink"],
        DIR / "tbd" / "node_modules" / ".bin" / "tbd": ["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts",
                                                        "--prefix", DIR / "tbd", f"get-tbd@{TBD}"],
    }
    for program, command in wanted.items():
        if not program.exists():
            print(f"  installing {program.name} into {DIR.name}/, once; a build takes some minutes", file=sys.stderr)
            if subprocess.run(["nice", *map(str, command)], cwd="/").returncode != 0:
                print(f"  {program.name} cannot be installed here", file=sys.stderr)
    return [str(program.parent) for program in wanted if program.exists()]


class Ours:
    name, title = "orchestra", "git orchestra"

    def __init__(self, bench):
        self.bench, self.run = bench, bench.run

    def make(self, repo, tasks):
        self.first = self.run(repo, [self.bench.seed, str(tasks), "0"]).split()[0]

    def share(self, repo):
        self.run(repo, [self.bench.orchestra, "push"])

    def clone(self, remote, clone):
        return ["sh", "-c", f"git clone --quiet {remote} {clone} && git-orchestra -C {clone} sync --quiet"]

    def list(self):
        return [self.bench.orchestra, "task", "list", "--all"]

    def show(self):
        return [self.bench.orchestra, "task", "show", self.first]

    def add(self):
        return [self.bench.orchestra, "task", "add", "One more", "-m", TEXT]

    def update(self, repo, writer, number):
        if writer == 0:
            return [self.bench.orchestra, "task", "edit", self.first, "--priority", str(number % 90 + 1)]
        if not hasattr(self, "all"):
            files = self.run(repo, ["git", "ls-tree", "-r", "--name-only", "refs/orchestra/state", "tasks"]).split()
            self.all = [Path(file).stem for file in files]
        return [self.bench.orchestra, "task", "edit", self.all[writer], "--priority", str(number % 90 + 1)]

    def publish(self, repo, number):
        return ["sh", "-c", f"git-orchestra task edit {self.first} --priority {number % 90 + 1} && git-orchestra push --quiet"]

    def fetch(self):
        return [self.bench.orchestra, "sync", "--quiet"]

    def claim(self, number):
        return [self.bench.orchestra, "task", "claim", "--next", "--quiet"]


class Crosslink:
    name, title = "crosslink", f"crosslink {CROSSLINK}"

    def __init__(self, bench):
        self.bench, self.run = bench, bench.run

    def make(self, repo, tasks):
        self.prepare(repo)
        issues = [{"uuid": str(uuid.UUID(int=n + (4 << 76) + (8 << 60))), "display_id": n, "title": f"Task {n}", "description": TEXT,
                   "status": "open", "priority": "medium", "created_by": "seed", "created_at": MADE, "updated_at": MADE}
                  for n in range(1, tasks + 1)]
        file = repo.parent / "issues.json"
        file.write_text(json.dumps(issues))
        self.run(repo, ["crosslink", "import", file])

    def prepare(self, repo):
        self.run(repo, ["crosslink", "init", "--defaults", "--skip-cpitd", "--skip-signing"])
        self.run(repo, ["crosslink", "config", "set", "tracker_remote", "origin"])

    def share(self, repo):
        self.run(repo, ["crosslink", "sync"])
        self.run(repo, ["crosslink", "migrate", "to-shared"])
        # Its first change brings what it has to the remote.
        self.run(repo, ["crosslink", "issue", "update", "1", "-p", "low"])

    def clone(self, remote, clone):
        return ["sh", "-c", f"git clone --quiet {remote} {clone} && cd {clone} && "
                            "crosslink init --defaults --skip-cpitd --skip-signing && crosslink sync"]

    def list(self):
        return ["crosslink", "issue", "list", "--status", "all"]

    def show(self):
        return ["crosslink", "issue", "show", "1"]

    def add(self):
        return ["crosslink", "issue", "create", "One more", "-d", TEXT]

    def update(self, repo, writer, number):
        return ["crosslink", "issue", "update", str(writer + 1), "-p", ["low", "high"][number % 2]]

    def publish(self, repo, number):
        return self.update(repo, 0, number)

    def fetch(self):
        return ["crosslink", "sync"]

    def claim(self, number):
        return ["crosslink", "locks", "claim", str(number + 2)]


class Tbd:
    name, title = "tbd", f"tbd {TBD}"

    def __init__(self, bench):
        self.bench, self.run = bench, bench.run

    def make(self, repo, tasks):
        self.run(repo, ["tbd", "init", "--prefix=bn"])
        # Those who clone the repository find its settings in it.
        self.run(repo, ["git", "add", ".tbd"])
        self.run(repo, ["git", "commit", "--quiet", "-m", "tbd"])
        self.run(repo, ["tbd", "sync", "--docs"])
        file = repo.parent / "issues.jsonl"
        issues = [{"id": f"bn-{n:04}", "title": f"Task {n}", "description": TEXT, "status": "open", "priority": 2, "issue_type": "task",
                   "created_at": MADE, "updated_at": MADE} for n in range(1, tasks + 1)]
        file.write_text("".join(json.dumps(issue) + "\n" for issue in issues))
        self.run(repo, ["tbd", "import", file])
        self.ids = [issue["id"] for issue in json.loads(self.run(repo, ["tbd", "list", "--json"]))]

    def share(self, repo):
        self.run(repo, ["tbd", "sync"])

    def clone(self, remote, clone):
        return ["sh", "-c", f"git clone --quiet {remote} {clone} && cd {clone} && tbd sync"]

    def list(self):
        return ["tbd", "list", "--all"]

    def show(self):
        return ["tbd", "show", self.ids[0]]

    def add(self):
        return ["tbd", "create", "One more", "--description", TEXT]

    def update(self, repo, writer, number):
        return ["tbd", "update", self.ids[writer], "--priority", str(number % 4)]

    def publish(self, repo, number):
        return ["sh", "-c", f"tbd update {self.ids[0]} --priority {number % 4} && tbd sync --issues"]

    def fetch(self):
        return ["tbd", "sync", "--issues"]

    def claim(self, number):
        return None


def compare(bench, tasks, writers):
    """Every row that all can be asked for, side by side, with what ours takes of theirs."""
    programs = [Ours(bench), *(peer(bench) for peer in [Crosslink, Tbd] if shutil.which(peer.name, path=bench.env["PATH"]))]
    alone, here, there, remotes = {}, {}, {}, {}
    for program in programs:
        alone[program] = bench.repository(f"{program.name}-alone", files=10)
        program.make(alone[program], tasks)
    rounds = max(5, bench.rounds // 3)
    counter = iter(range(1_000_000))

    def row(what, rounds, command, places=alone, before=None):
        entries, cannot = [], []
        for program in programs:
            if command(program, 0) is None:
                cannot.append(program)
                continue

            def next_command(program=program):
                number = next(counter)
                if before:
                    before(program, number)
                return command(program, number)

            entries.append((program.title, next_command, places[program]))
        print(f"\n  {what}")
        results = bench.in_turn(None, entries, rounds=rounds)
        bench.versus(results)
        for program in cannot:
            print(f"  {program.title:34} cannot")

    row(f"list {tasks:,} tasks", rounds, lambda program, _: program.list())
    row("show one", rounds, lambda program, _: program.show())
    row("add one, without a remote (crosslink: in its database only; tbd: in a file, not in git)", rounds, lambda program, _: program.add())
    row("update one, without a remote (the same)", rounds, lambda program, number: program.update(alone[program], 0, number))
    bursts(bench, programs, alone, writers)
    for program in programs:
        here[program] = bench.repository(f"{program.name}-here", files=10)
        remotes[program] = here[program].parent / "remote.git"
        bench.run(here[program], ["git", "init", "--quiet", "--bare", "-b", "main", remotes[program]])
        bench.run(here[program], ["git", "remote", "add", "origin", remotes[program]])
        program.make(here[program], tasks)
        bench.run(here[program], ["git", "push", "--quiet", "origin", "main"])
        program.share(here[program])
        there[program] = here[program].parent / "there"
        bench.run(here[program], program.clone(remotes[program], there[program]))
    row("update one and have it on the remote", rounds, lambda program, number: program.publish(here[program], number), here)
    row("sync of one change that another clone made", rounds, lambda program, _: program.fetch(), there,
        before=lambda program, number: bench.run(here[program], program.publish(here[program], number)))
    row("first clone, with everything", max(3, rounds // 3),
        lambda program, number: program.clone(remotes[program], here[program].parent / f"clone-{number}"), here)
    # crosslink's number says which; each is asked for one that nobody has.
    claimed = iter(range(tasks))
    row("claim one on the remote, nobody in the way", min(rounds, 8), lambda program, _: program.claim(next(claimed)), here)


def bursts(bench, programs, places, writers, updates=4):
    print(f"\n  {writers} processes at once, {updates} updates each, without a remote")
    rates = {}
    for program in programs:
        failed, codes = [], []
        command = lambda writer, number: program.update(places[program], writer, number)
        program.update(places[program], 1, 0)
        rates[program.title] = at_once(bench, places[program], command, writers, updates, failed)
        base = next(iter(rates.values()))
        lost = f", {len(failed)} of {writers * updates} failed" if failed else ""
        print(f"  {program.title:34} {rates[program.title]:8.1f}/s   ours: {base / rates[program.title]:6.2f} × as many{lost}")


def at_once(bench, repo, command, writers, updates, failed):
    def work(writer):
        for number in range(updates):
            argv = [str(word) for word in command(writer, number)]
            done = subprocess.run(argv, cwd=repo, env=bench.env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
            if done.returncode != 0:
                failed.append(done.stderr)

    return writers * updates / together(work, writers)


def together(work, count):
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start


def claims(bench, clones, each, deadline):
    """So many clones want the same tasks, until they are gone; git pushes as many refs that nobody else wants."""
    total = clones * each
    print(f"\n  {clones} clones want {total} tasks")
    base = None
    for name, work in [("git push of a ref each, in no way", git_claims), ("git orchestra task claim --next", our_claims),
                       (f"crosslink {CROSSLINK} locks claim", crosslink_claims)]:
        if work is crosslink_claims and not shutil.which("crosslink", path=bench.env["PATH"]):
            continue
        root = bench.work / f"claims-{clones}-{work.__name__}"
        done, took, more = work(bench, root, clones, each, deadline)
        rate = len(done) / took
        base = base or rate
        twice = len(done) - len(set(done))
        print(f"  {name:34} {len(done):5} in {took:6.1f} s {rate:7.1f}/s   ratio {base / rate:6.2f}   {twice} twice{more}")
        shutil.rmtree(root)
    print(f"  {f'tbd {TBD}':34} cannot: an assignee is a field that the last one to sync has written")


def clones_of(bench, root, clones):
    first = bench.repository(f"{root.name}/first", files=10)
    remote = root / "remote.git"
    bench.run(first, ["git", "init", "--quiet", "--bare", "-b", "main", remote])
    bench.run(first, ["git", "remote", "add", "origin", remote])
    bench.run(first, ["git", "push", "--quiet", "origin", "main"])
    return first, remote, [root / f"clone-{number}" for number in range(clones)]


def ask(bench, repo, argv):
    return subprocess.run([str(word) for word in argv], cwd=repo, env=bench.env, stdin=subprocess.DEVNULL, capture_output=True, text=True)


def git_claims(bench, root, clones, each, deadline):
    _, remote, places = clones_of(bench, root, clones)
    for place in places:
        bench.run(root, ["git", "clone", "--quiet", remote, place])
    done = []

    def work(number):
        for n in range(each):
            name = f"refs/bench/{number}-{n}"
            bench.run(places[number], ["git", "push", "--quiet", f"--force-with-lease={name}:", "origin", f"HEAD:{name}"])
            done.append(name)

    return done, together(work, clones), ""


def our_claims(bench, root, clones, each, deadline):
    first, remote, places = clones_of(bench, root, clones)
    # All of one priority: the better ones of several are what everybody wants at once.
    for number in range(clones * each):
        bench.run(first, [bench.orchestra, "task", "add", f"Task {number}", "-m", TEXT])
    bench.run(first, [bench.orchestra, "push"])
    for place in places:
        bench.run(root, ["git", "clone", "--quiet", remote, place])
        bench.run(place, [bench.orchestra, "sync"])
    done, pushes, end = [], [], time.monotonic() + deadline

    def work(number):
        while time.monotonic() < end:
            out = ask(bench, places[number], [bench.orchestra, "task", "claim", "--next", "--json", "--quiet"])
            if not out.stdout:
                sys.exit(f"claim exited {out.returncode}\n{out.stderr}")
            answer = json.loads(out.stdout)["data"]
            pushes.append(answer["pushes"])
            held = [one["id"] for one in answer["claimed"] if one["outcome"] == "held"]
            if not held:
                return
            done.extend(held)

    took = together(work, clones)
    return done, took, f", {sum(pushes) / len(done):.3f} pushes per claim (aim: ≤ 1.2)"


def crosslink_claims(bench, root, clones, each, deadline):
    first, remote, places = clones_of(bench, root, clones)
    crosslink = Crosslink(bench)
    crosslink.make(first, clones * each)
    crosslink.share(first)
    for place in places:
        bench.run(root, crosslink.clone(remote, place))
    done, failures, end = [], [], time.monotonic() + deadline

    def work(number):
        gone = set()
        while time.monotonic() < end and len(done) < clones * each:
            # In an order of its own, as ours does, past those that it has heard of.
            gone.update(re.findall(r"#(\d+)", ask(bench, places[number], ["crosslink", "locks", "list"]).stdout))
            left = [n for n in range(1, clones * each + 1) if str(n) not in gone]
            if not left:
                return
            wanted = str(left[(number * 7919) % len(left)])
            out = ask(bench, places[number], ["crosslink", "locks", "claim", wanted])
            gone.add(wanted)
            if out.returncode == 0 and "Claimed" in out.stdout:
                done.append(wanted)
            else:
                failures.append(out.stderr or out.stdout)

    took = together(work, clones)
    more = f", {len(failures)} refused or failed"
    return done, took, more + (", stopped at the deadline" if len(set(done)) < clones * each else "")
