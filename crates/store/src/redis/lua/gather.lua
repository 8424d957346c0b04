-- Instances of a tenant, each with all that belongs to it, in the order of their ids. Changes nothing.
--
-- KEYS      the bucket
-- ARGV[2]   { tenant, after, limit, expires }: so many that come behind a raw id, or from the first on if that is false
--             expires: whether closed instances go by time
-- Replies   for each { raw id, head, body, lines, questions, phases, effects }, or { raw id, 1 } where it is lost, and
--           { raw id, 0 } where it has gone by time
--             lines: receipt and line of each, questions: raw id and value, phases: place and line,
--             effects: key, effect and progress; false for what is lost

local is_foreign = foreign()
if is_foreign then
  return is_foreign
end
local P = home(KEYS[1])
local tenant, after, limit, expires = unpack(cmsgpack.unpack(ARGV[2]))

-- As sets are ordered, which is not how Lua may compare.
local function is_before(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then
      return x < y
    end
  end
  return #a < #b
end

local function next_ids()
  local from = after and '(' .. after or '-'
  local ids = call('ZRANGEBYLEX', P .. 'open:' .. tenant, from, '+', 'LIMIT', 0, limit)
  from = after and '[' .. after .. '\32' or '-'
  for _, member in ipairs(call('ZRANGEBYLEX', P .. 'closed:' .. tenant, from, '+', 'LIMIT', 0, limit)) do
    ids[#ids + 1] = string.match(member, '^[^\31]*')
  end
  table.sort(ids, is_before)
  return ids
end

local function lines_of(about)
  local lines = {}
  for _, element in ipairs(call('LRANGE', P .. 'l:' .. about, 0, -1)) do
    local receipt = string.match(element, ':(.*)$')
    lines[#lines + 1] = receipt
    lines[#lines + 1] = call('GET', P .. 'e:' .. receipt)
  end
  return lines
end

-- A question is called by its instance and the revision that asked; only who has a subject asks.
local function questions_of(id, head)
  local questions = {}
  if not present(head[SUBJECT]) then
    return questions
  end
  for revision = 1, head[REVISION] do
    local name = id .. ':' .. whole(revision)
    local value = call('GET', P .. 'q:' .. tenant .. ':' .. esc(name))
    if value then
      questions[#questions + 1] = name
      questions[#questions + 1] = value
    end
  end
  return questions
end

local function effects_of(about)
  local effects = {}
  for _, key in ipairs(call('ZRANGE', P .. 'of:' .. about, 0, -1)) do
    local found = call('HMGET', P .. 'o:' .. tenant .. ':' .. key, 'effect', 'progress')
    effects[#effects + 1] = key
    effects[#effects + 1] = found[1]
    effects[#effects + 1] = found[2]
  end
  return effects
end

local replies = {}
for i, id in ipairs(next_ids()) do
  if i > limit then
    break
  end
  local about = tenant .. ':' .. esc(id)
  local found = call('HMGET', P .. 'i:' .. about, 'head', 'body')
  if found[1] then
    local is_read, head = pcall(cjson.decode, found[1])
    local questions = is_read and questions_of(id, head) or {}
    replies[i] = { id, found[1], found[2], lines_of(about), questions, call('HGETALL', P .. 'p:' .. about), effects_of(about) }
  else
    -- One that has gone by time is nobody's any more.
    replies[i] = { id, absence(P, tenant, id, expires) == LOST and 1 or 0 }
  end
end
return replies
