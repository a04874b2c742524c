"""The files that say which lines are compared: `== NAME [MARK]` begins a section, `#` a remark."""


def sections(path, mark):
    """[(name, whether it bears the mark, lines)]; a line of blanks is a line, an empty one is none."""
    found = []
    with open(path, encoding="utf-8") as file:
        for line in file.read().splitlines():
            if line.startswith("== "):
                words = line[3:].split()
                found.append((words[0], mark in words[1:], []))
            elif line and not line.startswith("#"):
                found[-1][2].append(line)
    return found
