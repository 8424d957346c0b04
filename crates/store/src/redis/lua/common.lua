-- What every script begins with. It is put in front of each of them when the program starts.
--
-- KEYS[n]   `<prefix>:{b<number>}:meta`, the meta key of the n-th bucket that the script is about. All other keys of a
--           bucket are made of what stands before `meta`, so they are in the slot of this one.
-- ARGV[1]   the identity of the store, as it was when the program opened it
-- ARGV[2]   what is asked, packed (MessagePack); each script says what is in it. False stands for what is not there.
--
-- A name within a key is escaped (`esc`), so that a colon separates. Times are milliseconds.

local call = redis.call

-- What stands before the names of a bucket's keys.
local function home(key)
  return string.sub(key, 1, -5)
end

-- An error unless each bucket is there and belongs to the store that was opened.
local function foreign()
  for _, key in ipairs(KEYS) do
    local found = call('HGET', key, 'store')
    if not found then
      return redis.error_reply('LOST ' .. key .. ' is gone')
    end
    if found ~= ARGV[1] then
      return redis.error_reply('LOST ' .. key .. ' belongs to another store')
    end
  end
end

local function esc(name)
  if not string.find(name, '[%c:%%]') then
    return name
  end
  return (string.gsub(name, '[%c:%%]', function(c) return string.format('%%%02X', string.byte(c)) end))
end

local function unesc(name)
  return (string.gsub(name, '%%(%x%x)', function(hex) return string.char(tonumber(hex, 16)) end))
end

-- A number as it is written into a reply or a field: whole, however large.
local function whole(number)
  return string.format('%.0f', number)
end

-- What of a JSON array is null is nothing.
local function present(value)
  if value == cjson.null then
    return nil
  end
  return value
end

local STORED, GONE_AS_PLANNED, LOST = 1, 2, 3

-- The places in an instance's `head`, which counts from 1. Before them stand the checksum and the format.
local MACHINE, SUBJECT, ORDINAL, REVISION, STATE, CLOSURE = 3, 6, 7, 8, 9, 10
local WAKE_AT, LOOPING = 13, 14

-- The entry of a closed instance in the set of its tenant, or nothing. It holds all that has to be known to forget it.
local function closed_member(P, tenant, id)
  local found = call('ZRANGEBYLEX', P .. 'closed:' .. tenant, '[' .. id .. '\31', '(' .. id .. '\32', 'LIMIT', 0, 1)
  return found[1]
end

-- Why an instance that has no key has none: nil when nobody has ever heard of it. `expires`: closed ones go by time.
local function absence(P, tenant, id, expires)
  if call('ZSCORE', P .. 'open:' .. tenant, id) then
    return LOST
  end
  if closed_member(P, tenant, id) then
    return expires and GONE_AS_PLANNED or LOST
  end
end

-- Counts are gathered while a script runs and written once, by `write_counts`.
local counts = {}

local function count(field, by)
  counts[field] = (counts[field] or 0) + by
end

local function write_counts(P)
  for field, by in pairs(counts) do
    if by ~= 0 then
      call('HINCRBY', P .. 'counts', field, by)
    end
  end
  counts = {}
end

-- Of the deadlines of open instances, how many there are and the sum of their seconds make the mean.
local function count_instance(machine, state, closure, wake_at, by)
  if closure then
    count('c\31' .. machine .. '\31' .. closure, by)
    return
  end
  count('o\31' .. machine .. '\31' .. state, by)
  if wake_at then
    count('d\31count', by)
    count('d\31seconds', by * math.floor(wake_at / 1000))
  end
end

local function is_shadow(tenant)
  return string.match(tenant, '^[^~]*~(.*)$') == 'shadow'
end

-- The places in the value of a phase's line.
local PHASE = { machine = 2, state = 4, retries = 7, error = 8, offered_at = 9, lease = 11 }

-- Adds or removes a phase in the indexes of its tenant. In `phases:<tenant>` a later place is written as a smaller
-- number, because lists are read backwards: the newest flow first, but its places in order.
local function index_phase(P, tenant, id, place, line, add)
  local behind = id .. '\31' .. string.format('%05d', 65535 - place)
  local members = { 'a\31' .. behind, 's\31' .. line[PHASE.state] .. '\31' .. behind }
  local lease, failure = present(line[PHASE.lease]), present(line[PHASE.error])
  if lease then
    members[#members + 1] = 'l\31' .. esc(lease) .. '\31' .. behind
  end
  if failure then
    members[#members + 1] = 'e\31' .. esc(failure) .. '\31' .. behind
  end
  if line[PHASE.retries] > 0 then
    members[#members + 1] = 'r\31' .. behind
  end
  local key = P .. 'phases:' .. tenant
  for _, member in ipairs(members) do
    if add then
      call('ZADD', key, 0, member)
    else
      call('ZREM', key, member)
    end
  end
  local offered_at = present(line[PHASE.offered_at])
  local offer = id .. '\31' .. string.format('%05d', place)
  if offered_at and add then
    call('ZADD', P .. 'offers:' .. tenant, whole(offered_at), offer)
  elseif offered_at then
    call('ZREM', P .. 'offers:' .. tenant, offer)
  end
end

local function count_phase(line, by)
  count('p\31' .. line[PHASE.machine] .. '\31' .. line[PHASE.state], by)
end

-- All lines of an instance's phases, by their places.
local function phases_of(P, about)
  local all, lines = call('HGETALL', P .. 'p:' .. about), {}
  for i = 1, #all, 2 do
    lines[tonumber(all[i])] = cjson.decode(all[i + 1])
  end
  return lines
end

-- Forgets a closed instance, all but its log and its questions. `member` is its entry among the closed.
local function forget(P, tenant, id, member)
  local _, machine, subject, ordinal, reason = string.match(member, '^([^\31]*)\31([^\31]*)\31([^\31]*)\31([^\31]*)\31(.*)$')
  local about = tenant .. ':' .. esc(id)
  call('DEL', P .. 'i:' .. about)
  call('ZREM', P .. 'closed:' .. tenant, member)
  call('ZREM', P .. 'expiring', about)
  call('ZREM', P .. 'looping:' .. tenant, id)
  call('ZREM', P .. 'due', about)
  if tonumber(ordinal) > 0 then
    call('ZREM', P .. 's:' .. tenant .. ':' .. esc(machine) .. ':' .. esc(subject), id)
  end
  if not is_shadow(tenant) then
    count_instance(machine, nil, reason, nil, -1)
  end
  for place, line in pairs(phases_of(P, about)) do
    index_phase(P, tenant, id, place, line, false)
  end
  call('DEL', P .. 'p:' .. about)
end
