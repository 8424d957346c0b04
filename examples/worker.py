#!/usr/bin/env python3
"""A worker that does nothing in earnest: it takes phases of flows, pretends to work on them and hands them in.

Put your own work where `pretend` is. The rest is what any worker has to do: ask for each piece of work under a key of
its own, and send the very same again when no answer has come; show that it lives; and stop when its lease is lost,
since somebody else may have the phase by then. It says yes to nothing: that is for people.
"""
import argparse, http.client, json, os, socket, sys, time, urllib.error, urllib.request, uuid

parser = argparse.ArgumentParser(description="Takes phases of flows and pretends to work on them.")
parser.add_argument("--url", default=os.environ.get("STATEWRIGHT_URL", "http://127.0.0.1:7474"))
parser.add_argument("--kind", action="append", help="a kind of work, beside that for any worker; repeatable")
parser.add_argument("--flow", help="take phases of this flow only")
parser.add_argument("--fail-every", type=int, default=0, metavar="N", help="let every Nth piece of work fail")
parser.add_argument("--error-code", default="TEMPORARY_RESOURCE_UNAVAILABLE", help="with what they fail")
parser.add_argument("--speed", type=float, default=1, help="1 takes five seconds for each piece, 10 half a second")
parser.add_argument("--count", type=int, default=0, metavar="N", help="end after N pieces of work")
options = parser.parse_args()

NAME = f"worker-{socket.gethostname()}-{os.getpid()}"
PAUSE = 1 / options.speed                           # between two signs of life
LEASE = f"{max(10, round(5 * PAUSE))}s"             # several of them may be lost before the phase is
PASSING = (429, 502, 503, 504, 507)                 # not refused: the server cannot say just now


def ask(path, **body):
    """Status and JSON of the answer. Without one, the same is sent again: under its key it is done once."""
    who = {"authorization": "Bearer " + os.environ.get("STATEWRIGHT_API_KEY", "")}
    data = json.dumps({"key": str(uuid.uuid4()), **body}).encode()
    request = urllib.request.Request(options.url + path, data, who)
    while True:
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read() or "{}")
        except urllib.error.HTTPError as refusal:
            if refusal.code not in PASSING:
                return refusal.code, json.loads(refusal.read() or "{}")
            print(f"{refusal}; asking again", flush=True)
        except (OSError, http.client.HTTPException) as error:
            print(f"no answer ({error}); asking again", flush=True)
        time.sleep(1)


def pretend(report):
    """Gives back what has come of it: fields of the flow's context, if there are any."""
    for step in range(1, 6):
        time.sleep(PAUSE)
        report("heartbeat", progress=step / 5, lasts=LEASE)


def work_on(work, fails):
    def report(action, **more):
        path = work["complete"].removesuffix("complete") + action
        status, answer = ask(path, by=NAME, lease=work["lease"], **more)
        if status != 200:
            raise LookupError(f"{answer.get('code', status)}: {answer.get('detail', '')}")

    name = f"{work['flow_id']} {work['phase']} (attempt {work['attempt']})"
    print(f"{name}: taken", flush=True)
    try:
        output = pretend(report)
        if fails:
            report("fail", error={"code": options.error_code, "message": "as it was asked to"})
        else:
            report("complete", output=output)
        print(f"{name}: {options.error_code if fails else 'done'}", flush=True)
    except LookupError as refusal:
        print(f"{name}: given up, {refusal}", flush=True)
        # Whoever reads the flow learns why. If the lease is lost this is refused too, and the flow goes on without us.
        error = {"code": "DATA_VALIDATION_FAILED", "message": str(refusal)}
        ask(work["fail"], by=NAME, lease=work["lease"], error=error)


def main():
    of_flow, done = {"flow": options.flow} if options.flow else {}, 0
    while True:
        for kind in options.kind or [""]:
            status, work = ask("/v1/work/claim", worker=NAME, kind=kind, lasts=LEASE, **of_flow)
            if status == 200:
                done += 1
                work_on(work, fails=options.fail_every and done % options.fail_every == 0)
                if done == options.count:
                    return
            elif status == 204:                     # nothing to do
                time.sleep(0.2)
            else:
                sys.exit(f"{work.get('code', status)}: {work.get('detail', '')}")


try:
    main()
except KeyboardInterrupt:
    print("stopped; a phase that was under way is offered to others once its lease has run out")
