-- Takes down what a provider reports of an effect.
--
-- KEYS      its bucket
-- ARGV[2]   { tenant, provider, key, stage, status, failure, known }
--             key: what the send was marked with, or false; failure: false where it stays
--             known: the stages after which this one is news, `none` for no stage
-- Replies   1 if that was news

local is_foreign = foreign()
if is_foreign then
  return is_foreign
end
local P = home(KEYS[1])
local tenant, provider, key, stage, status, failure, known = unpack(cmsgpack.unpack(ARGV[2]))
local from = esc(provider) .. '\31'
local newest = call('ZREVRANGEBYLEX', P .. 'providers:' .. tenant, '(' .. esc(provider) .. '\32', '[' .. from, 'LIMIT', 0, 1)[1]
local progress
if newest then
  key = string.match(newest, '^[^\31]*\31%d+\31(.*)$')
  progress = find_effect(P, tenant, key)
elseif key then
  progress = find_effect(P, tenant, key)
  if progress and progress[STATUS] ~= 'unknown' then
    progress = nil
  end
end
if not progress then
  return 0
end
local is_news = false
for _, earlier in ipairs(known) do
  is_news = is_news or earlier == (progress[STAGE] or 'none')
end
if not is_news then
  return 0
end
if not newest then
  set_provider(P, tenant, key, progress, provider)
end
set_status(P, tenant, key, progress, status)
progress[STAGE] = stage
progress[FAILURE] = failure or progress[FAILURE]
save_effect(P, tenant, key, progress)
write_counts(P)
return 1
