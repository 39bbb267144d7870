"""How far a long work is: on a terminal a bar, in a log file a line every ten seconds."""

import sys
import threading

from tqdm import tqdm

DELAY = 3.0  # seconds that a work may take without a bar
EVERY = 0.2  # seconds between two looks at a bar
EVERY_LINE = 10.0  # and between two lines of a log file
BAR = "{desc}: {percentage:3.0f}%|{bar}| "
LINE = "{desc}: {percentage:.0f}%, "
COUNT = "{n:,.0f} of {total:,.0f} {unit}, "
TIME = "{elapsed}, {remaining} left{postfix}"


class Bar:
    """Count work for the length of a `with` block, and show on stderr how much of it is done.

    What draws it is a thread of its own, so that time goes on also where nothing is counted.
    total: work to be done; title: what it is; unit: what is counted, None = a share
    delay: seconds without a bar; leave: whether it stays when the work is done
    .done: work so far; .note: what else to show
    """

    def __init__(self, total, title, unit="network evaluations", delay=DELAY, leave=False):
        self.total, self.done, self.note = total, 0, ""
        stream = sys.stderr
        on_terminal = stream.isatty()
        self._every = EVERY if on_terminal else EVERY_LINE
        form = (BAR if on_terminal else LINE) + (COUNT if unit else "") + TIME
        shown = {"desc": title, "unit": unit or "", "bar_format": form}
        often = {"delay": delay, "leave": leave, "mininterval": 0, "miniters": 0}
        self._bar = tqdm(total=total, file=_Stream(stream, on_terminal), **shown, **often)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._draw, daemon=True)

    def tick(self, n=1):
        """Count n more as done -> None"""
        self.done += n

    def _draw(self):
        while not self._over.wait(self._every):
            self._bar.set_postfix_str(self.note, refresh=False)
            self._bar.update(self.done - self._bar.n)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join(1.0)
        if self._thread.is_alive():  # it is writing to a terminal that is halted
            return
        self._bar.set_postfix_str(self.note, refresh=False)
        self._bar.n = self.done
        self._bar.close()


class _Stream:
    """What tqdm writes to: a stream that may fail; outside a terminal each update is a line."""

    def __init__(self, stream, on_terminal):
        self.stream, self.on_terminal = stream, on_terminal

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def write(self, text):
        line = text if self.on_terminal else text.strip() + "\n"
        if self.on_terminal or line.strip():
            try:
                self.stream.write(line)
                self.stream.flush()
            except (OSError, ValueError):
                pass  # nobody reads any more: the work goes on

    def flush(self):
        pass
