-- Ends all logins of a user, and pushes that to the other nodes.
-- KEYS: user. ARGV: name of the user, the code in two bytes, the reason.
-- Answers how many connections the user had on other nodes.
allow_oom()
local user = load(KEYS[KEY])
local name, code, reason = ARGV[ARG], ARGV[ARG + 1], ARGV[ARG + 2]
if user.last == 0 then return 0 end
local upto, count, told = pack('>I8', user.last), 0, { [here] = true }
-- also those of nodes that are thought to be gone, and come back
call('HSET', user.key, 'k', upto .. code .. reason)
for _, login in ipairs(remove(user, function() return true end)) do
  if is_alive(login.node) then
    if login.node ~= here then count = count + 1 end
    if not told[login.node] then
      told[login.node] = true
      tell(login.node, 3, upto .. code .. pack('>B', #reason) .. reason .. named(name))
    end
  end
end
rest(user)
return count
