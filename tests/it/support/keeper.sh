# Keeps a PostgreSQL server for a test process: runs as whoever owns the server, takes one order a
# line, and answers each with `ok` or `failed`; what a failed order said stands in the file `said`.
# When the orders end, however the process that gave them ended, it leaves neither server nor files.
binaries=$1 folder=$2
data=$folder/data

obey() {
    case $1 in
    create)
        printf '%s\n' "$2" >"$folder/password" &&
            "$binaries/initdb" --pgdata="$data" --username=postgres --pwfile="$folder/password" \
                --auth-local=trust --auth-host=password --locale=C --encoding=UTF8 --no-sync
        ;;
    copy)
        "$binaries/pg_basebackup" --pgdata="$data" --host="$2" --port="$3" --username=postgres \
            --write-recovery-conf --checkpoint=fast --no-sync
        ;;
    set) printf "%s = '%s'\n" "$2" "$3" >>"$data/postgresql.conf" ;;
    start) "$binaries/pg_ctl" start --pgdata="$data" --log="$folder/log" --wait --timeout=60 ;;
    stop) "$binaries/pg_ctl" stop --pgdata="$data" --mode="$2" --wait --timeout=60 ;;
    promote) "$binaries/pg_ctl" promote --pgdata="$data" --wait --timeout=60 ;;
    *) echo "no such order" && false ;;
    esac
}

# Neither a hang-up nor an answer that nobody reads any more ends it before its work is done.
trap '' HUP INT PIPE
umask 077
cd "$folder" || exit 1
while IFS=' ' read -r order first rest; do
    if obey "$order" "$first" "$rest" </dev/null >said 2>&1; then echo ok; else echo failed; fi
done
obey stop immediate </dev/null >said 2>&1
cd / && rm -rf "$folder"
