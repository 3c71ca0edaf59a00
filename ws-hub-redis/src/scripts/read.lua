-- Reads the log of a user.
-- KEYS: user, log. ARGV: C, N or P for cursor, number or place; the number or the place; messages and bytes of the page.
-- Answers: top, its id, cursor, after which number, 1 if nothing is missing before that, entries.
local user, log = load(KEYS[KEY]), KEYS[KEY + 1]
local kind, from = ARGV[ARG], ARGV[ARG + 1]
local before = user.top - (user.top > 0 and call('LLEN', log) or 0)
local cursor = max(user.cursor, before)
local after, is_whole = cursor, 1
if kind == 'N' then
  after = tonumber(from)
  if after < before then after, is_whole = before, 0
  -- not a number of this log: the server has lost data
  elseif after > user.top and user.top > 0 then after, is_whole = cursor, 0 end
elseif kind == 'P' then
  if is_place(user, log, before, from) then after = unpack('>I8', from) else is_whole = 0 end
end
local out = { user.top, user.id, cursor, after, is_whole }
if after < user.top then page(out, log, before, after, 33, tonumber(ARGV[ARG + 2]), tonumber(ARGV[ARG + 3])) end
return out
