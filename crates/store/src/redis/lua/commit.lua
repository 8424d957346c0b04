-- Saves chains of commits: each whole or not at all, and none of them if one violates what no outcome describes.
--
-- KEYS      the buckets; on a cluster one, elsewhere all that the batch is about
-- ARGV[2]   { ttl, groups }
--             ttl: how long a closed instance is kept in ms, or false
--             groups: one for each key, { seen, first, chains }
--               seen: the highest number of the bucket's log that the program has heard of
--               first: what the numbers of its effects begin with, as far as the program knows
--           a chain is { tenant, id, raw id, expected, beside, lines, instance, questions, phases, effects }
--             lines: { { receipt, value, at }, .. }
--             instance: false, or { head, body, machine, subject, ordinal, state, closure, updated_at, wake_at, looping }
--             questions: { { id, raw id, status, created_at, value }, .. }, those that end first
--             phases: { { place, value }, .. }
--             effects: { { key, number, lane, at, value }, .. }
-- Replies   one for each group: { last number of the log, last number of an effect, numbers lost, outcomes }
--           an outcome is 1 saved; 0 not saved, do it commit by commit; 2 stale; or the line of a duplicate
--
-- First everything is checked, then everything is written: nothing fails in between.

local SAVED, UNDECIDED, STALE = 1, 0, 2
local groups
ttl, groups = unpack(cmsgpack.unpack(ARGV[2]))

-- What earlier chains of the call are about, saved or not: who meets them there is done commit by commit.
local touched = {}

local function touch(what)
  local met = touched[what]
  touched[what] = true
  return met
end

local function keeps_its_name(head, instance)
  return head[MACHINE] == instance[3] and (present(head[SUBJECT]) or false) == instance[4]
    and head[ORDINAL] == instance[5]
end

local function check_questions(chain, found)
  local asked = found.asked
  for _, question in ipairs(chain[8]) do
    if question[3] ~= 'pending' then
      if asked == question[2] then
        asked = nil
      end
    elseif asked and asked ~= question[2] then
      violation(chain[3] .. ' has a pending clarification')
    else
      asked = question[2]
    end
  end
end

-- The outcome of a chain if it is not to be saved.
local function refusal(P, chain, found)
  local lines, instance = chain[6], chain[7]
  local is_met = touch(P .. 'i' .. found.about)
  local is_known
  for _, line in ipairs(lines) do
    is_met = touch(P .. 'r' .. line[1]) or is_met
    is_known = is_known or call('EXISTS', P .. 'e:' .. line[1]) == 1
  end
  if instance and instance[4] then
    found.sessions = P .. 's:' .. chain[1] .. ':' .. esc(instance[3]) .. ':' .. esc(instance[4])
    is_met = touch(found.sessions .. ':' .. instance[5]) and instance[5] > 0 and chain[4] == 0 or is_met
  end
  if is_met then
    return UNDECIDED
  end
  if is_known then
    return #lines == 1 and call('GET', P .. 'e:' .. lines[1][1]) or UNDECIDED
  end
  local fits
  if chain[4] == 0 then
    fits = is_free(P, chain, found)
  else
    fits = found.head and found.head[REVISION] == chain[4]
  end
  if not fits then
    return #lines == 1 and STALE or UNDECIDED
  end
  if found.head and instance and not keeps_its_name(found.head, instance) then
    violation(chain[3] .. ' keeps its machine, its subject and its ordinal for life')
  end
  check_questions(chain, found)
  for _, effect in ipairs(chain[10]) do
    local key = P .. 'o:' .. chain[1] .. ':' .. effect[1]
    if touch(key) or call('EXISTS', key) == 1 then
      violation('the effect ' .. effect[1] .. ' exists')
    end
  end
end

-- Gives the number of the last effect. `shift` is what the program has not heard of yet.
local function write_effects(P, chain, found, shift, last)
  local tenant = chain[1]
  for _, effect in ipairs(chain[10]) do
    local key, lane, at = effect[1], effect[3], whole(effect[4])
    local seq = effect[2] + shift
    local number = whole(seq)
    local name = string.format('%016.0f', seq) .. ':' .. tenant .. ':' .. key
    last = math.max(last, seq)
    -- seq, name of the lane or false, status, attempts, parts done, due at, settled at, stage, provider's id, error
    local progress = { number, lane and chain[2] .. ':' .. lane or false, 'pending', 0, 0, at, false, false, false, false }
    call('HSET', P .. 'o:' .. tenant .. ':' .. key, 'effect', effect[5], 'progress', cjson.encode(progress))
    call('ZADD', P .. 'effects:' .. tenant, number, key)
    call('ZADD', P .. 'undelivered:' .. tenant, number, key)
    call('ZADD', P .. 'of:' .. found.about, number, key)
    local is_first = true
    if lane then
      lane = P .. 'lane:' .. found.about .. ':' .. lane
      call('ZADD', lane, number, key)
      is_first = call('ZCARD', lane) == 1
    end
    if is_first then
      call('ZADD', P .. 'claimable', at, name)
    end
    count('e\31pending', 1)
  end
  return last
end

local function write(P, chain, found, seq, shift, effects)
  for id in pairs(found.expired) do
    forget(P, chain[1], id, closed_member(P, chain[1], id))
  end
  local instance, head = chain[7], found.head
  local was_closed = head and present(head[CLOSURE])
  local is_closed = was_closed
  if instance then
    is_closed = instance[7]
    write_instance(P, chain, found)
    write_phases(P, chain, found, head and not was_closed or false, not is_closed)
  end
  append_lines(P, chain, found, seq, is_closed)
  if chain[5] then
    call('ZREM', P .. 'beside', found.about)
  end
  if #chain[8] > 0 then
    write_questions(P, chain, found)
  end
  if #chain[10] > 0 then
    effects = write_effects(P, chain, found, shift, effects)
  end
  return seq + #chain[6], effects
end

local function check_all()
  local plans = {}
  for g, group in ipairs(groups) do
    local P, plan = home(KEYS[g]), {}
    for c, chain in ipairs(group[3]) do
      local found = find(P, chain)
      plan[c] = { found = found, refusal = refusal(P, chain, found) }
    end
    plans[g] = plan
  end
  return plans
end

local function write_group(P, group, plan)
  local meta = call('HMGET', P .. 'meta', 'seq', 'effects', 'latest')
  local seq, effects, latest = tonumber(meta[1]), tonumber(meta[2]), tonumber(meta[3] or -math.huge)
  local lost = math.max(group[1] - seq, 0)
  seq = seq + lost
  local shift = math.max(effects + 1 - group[2], 0)
  local outcomes, newest, is_written = {}, latest, lost > 0
  for c, chain in ipairs(group[3]) do
    outcomes[c] = plan[c].refusal or SAVED
    if outcomes[c] == SAVED then
      is_written = true
      seq, effects = write(P, chain, plan[c].found, seq, shift, effects)
      newest = math.max(newest, chain[7] and chain[7][8] or newest)
    end
  end
  if is_written then
    call('HSET', P .. 'meta', 'seq', whole(seq), 'effects', whole(effects))
    if newest > latest then
      call('HSET', P .. 'meta', 'latest', whole(newest))
    end
    if lost > 0 then
      call('HINCRBY', P .. 'counts', 'lost', lost)
    end
    write_counts(P)
  end
  return { whole(seq), whole(effects), whole(lost), outcomes }
end

local is_foreign = foreign()
if is_foreign then
  return is_foreign
end
local is_sound, plans = pcall(check_all)
if not is_sound then
  if type(plans) == 'table' and plans.detail then
    return redis.error_reply('VIOLATION ' .. plans.detail)
  end
  error(plans)
end
local replies = {}
for g, group in ipairs(groups) do
  replies[g] = write_group(home(KEYS[g]), group, plans[g])
end
return replies
