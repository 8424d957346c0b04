"""The same conversation as a person would write it by hand: FastAPI, psycopg and PostgreSQL, one transaction a message.

Dedupes by the message's id, checks the message against the state, keeps state and history; no timers, no questions, no
words in other languages. Says where it listens, then serves with two workers.
"""

import json
import os
import socket
import sys
import threading
import time
import uuid
from contextlib import asynccontextmanager

import psycopg
import uvicorn
from fastapi import FastAPI
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel, Field

TABLES = """
CREATE TABLE IF NOT EXISTS sessions (
    id uuid PRIMARY KEY, user_id text NOT NULL UNIQUE, state text NOT NULL, revision bigint NOT NULL,
    context jsonb NOT NULL, updated_at timestamptz NOT NULL
);
CREATE TABLE IF NOT EXISTS history (
    id bigserial PRIMARY KEY, session_id uuid NOT NULL, at timestamptz NOT NULL DEFAULT now(), entry jsonb NOT NULL
);
CREATE INDEX IF NOT EXISTS history_by_session ON history (session_id);
CREATE TABLE IF NOT EXISTS receipts (user_id text, message_id text, answer jsonb, PRIMARY KEY (user_id, message_id));
"""

# From a state and a word to the next state and the reply; `*` is any text.
TRANSITIONS = {
    ("idle", "update"): ("task_selection", "Which task is it about?"),
    ("task_selection", "*"): ("awaiting_action", "Send photos or comments."),
    ("awaiting_action", "*"): ("collecting_data", "Noted. Say done when that is all."),
    ("collecting_data", "done"): ("confirmation_pending", "Shall I send it?"),
    ("collecting_data", "*"): ("collecting_data", "Noted."),
    ("confirmation_pending", "yes"): ("completed", "Thank you, it is sent."),
}

pool = AsyncConnectionPool(os.environ["PEER_DATABASE"], min_size=16, max_size=16, open=False)


@asynccontextmanager
async def lifespan(_):
    await pool.open(wait=True)
    yield
    await pool.close()


app = FastAPI(lifespan=lifespan)


class Message(BaseModel):
    message_id: str = Field(min_length=1, max_length=200)
    text: str = Field(max_length=4_096)


class Answer(BaseModel):
    session_id: str
    revision: int
    outcome: str
    state: str
    reply: list[str]


@app.post("/v1/machines/{machine}/sessions/{user}/messages")
async def say(machine: str, user: str, message: Message) -> Answer:
    async with pool.connection() as connection:
        query = "SELECT id, state, revision, context FROM sessions WHERE user_id = %s FOR UPDATE"
        found = await (await connection.execute(query, (user,))).fetchone()
        if found is None:
            found = (uuid.uuid4(), "idle", 0, {"comment": None, "task_id": None})
            query = "INSERT INTO sessions VALUES (%s, %s, %s, %s, %s, now())"
            await connection.execute(query, (found[0], user, found[1], found[2], json.dumps(found[3])))
        session, state, revision, context = found
        query = "INSERT INTO receipts VALUES (%s, %s) ON CONFLICT DO NOTHING"
        if (await connection.execute(query, (user, message.message_id))).rowcount == 0:
            query = "SELECT answer FROM receipts WHERE user_id = %s AND message_id = %s"
            return Answer(**(await (await connection.execute(query, (user, message.message_id))).fetchone())[0])
        entered = TRANSITIONS.get((state, message.text)) or TRANSITIONS.get((state, "*"))
        to, reply = entered or (state, "I did not understand that.")
        if entered and state == "task_selection":
            context["task_id"] = message.text
        elif entered and to == "collecting_data":
            context["comment"] = "\n".join(filter(None, [context["comment"], message.text]))
        answer = Answer(
            session_id=str(session),
            revision=revision + 1,
            outcome="taken" if entered else "refused",
            state=to,
            reply=[reply],
        )
        told = answer.model_dump_json()
        query = "UPDATE sessions SET state = %s, revision = revision + 1, context = %s, updated_at = now() WHERE id = %s"
        await connection.execute(query, (to, json.dumps(context), session))
        entry = {"message_id": message.message_id, "text": message.text, "from": state, "to": to, "answer": told}
        query = "INSERT INTO history (session_id, entry) VALUES (%s, %s)"
        await connection.execute(query, (session, json.dumps(entry)))
        query = "UPDATE receipts SET answer = %s WHERE user_id = %s AND message_id = %s"
        await connection.execute(query, (told, user, message.message_id))
    return answer


def tell_when_there(port):
    """Says where it listens, once somebody does."""
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except ConnectionRefusedError:
            time.sleep(0.05)
    print(f"http://127.0.0.1:{port}", flush=True)


def main():
    with psycopg.connect(os.environ["PEER_DATABASE"]) as connection:
        connection.execute(TABLES)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    threading.Thread(target=tell_when_there, args=(port,), daemon=True).start()
    settings = {"loop": "uvloop", "http": "httptools", "access_log": False, "log_level": "warning"}
    uvicorn.run("peer:app", host="127.0.0.1", port=port, workers=2, **settings)
    sys.exit(0)


if __name__ == "__main__":
    main()
