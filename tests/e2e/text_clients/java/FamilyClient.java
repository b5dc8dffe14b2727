import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.math.BigInteger;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;

/**
 * A client in the manner of the ECS key-value family's: a plain socket, lines, ranges by MD5. Its main runs the
 * family's acceptance workload and ends with 0 when all went as the protocol says, with 1 and a line on standard
 * error otherwise, with 2 when its arguments are wrong.
 *
 * <pre>
 * java FamilyClient.java [--greeting] [--keys N] [--prefix P] (all|write|verify|dialects|ranges|clean) host:port...
 * </pre>
 *
 * write: puts N keys, each twice, and deletes every tenth again. verify: gets each of them, from the server that
 * `keyrange` names and from each that `keyrange_read` names; to be run again after servers came or went. dialects:
 * both dialects' replies, odd values, errors. ranges: the lists cover the circle. clean: deletes all. all: all.
 */
public final class FamilyClient {
    private static final long RETRY_FOR_MS = 60_000;
    private static final int REPLY_TIMEOUT_MS = 20_000;
    private static final int CONNECT_TIMEOUT_MS = 2_000;
    private static final int BACKOFF_MS_MAX = 400;
    private static final int LARGE_VALUE_BYTES = 119_000;
    private static final BigInteger CIRCLE = BigInteger.ONE.shiftLeft(128);

    private final List<String> seeds;
    private final boolean greeting;
    private final Map<String, Link> links = new TreeMap<>();
    private final Random random = new Random(7);
    private List<Range> ranges = new ArrayList<>();

    private FamilyClient(List<String> seeds, boolean greeting) {
        this.seeds = seeds;
        this.greeting = greeting;
    }

    /** A triple of a list: both ends belong to it, and it may wrap. */
    private record Range(BigInteger from, BigInteger to, String address) {
        boolean contains(BigInteger position) {
            boolean above = position.compareTo(from) >= 0;
            boolean below = position.compareTo(to) <= 0;
            return from.compareTo(to) <= 0 ? above && below : above || below;
        }

        BigInteger size() {
            return to.subtract(from).mod(CIRCLE).add(BigInteger.ONE);
        }
    }

    /** A connection that sends a line and reads a line. */
    private static final class Link {
        private final Socket socket = new Socket();
        private final BufferedReader reader;
        private final OutputStream out;

        Link(String address, boolean greeting) throws IOException {
            int colon = address.lastIndexOf(':');
            String host = address.substring(0, colon);
            int port = Integer.parseInt(address.substring(colon + 1));
            try {
                socket.connect(new InetSocketAddress(host, port), CONNECT_TIMEOUT_MS);
                socket.setSoTimeout(REPLY_TIMEOUT_MS);
                socket.setTcpNoDelay(true);
                reader = new BufferedReader(
                        new InputStreamReader(socket.getInputStream(), StandardCharsets.ISO_8859_1));
                out = socket.getOutputStream();
                if (greeting) {
                    String line = readLine();
                    check(line.startsWith("Connection to ") && line.endsWith(":" + port), "greeting: " + line);
                }
            } catch (IOException e) {
                close();
                throw e;
            }
        }

        String ask(String line) throws IOException {
            out.write((line + "\r\n").getBytes(StandardCharsets.ISO_8859_1));
            out.flush();
            return readLine();
        }

        private String readLine() throws IOException {
            String line = reader.readLine();
            if (line == null) {
                throw new IOException("the server closed the connection");
            }
            return line;
        }

        void close() {
            try {
                socket.close();
            } catch (IOException e) {
                // Nothing more is expected of it.
            }
        }
    }

    private static final class Failure extends RuntimeException {
        private static final long serialVersionUID = 1;

        Failure(String message) {
            super(message);
        }
    }

    private static void check(boolean holds, String message) {
        if (!holds) {
            throw new Failure(message);
        }
    }

    private static String shown(String line) {
        return line.length() <= 200 ? line : line.substring(0, 200) + "... (" + line.length() + " characters)";
    }

    private static void expect(String request, String expected, String reply) {
        check(expected.equals(reply),
                shown(request) + " was answered " + shown(reply) + ", not " + shown(expected));
    }

    private static BigInteger position(String key) {
        try {
            MessageDigest md5 = MessageDigest.getInstance("MD5");
            return new BigInteger(1, md5.digest(key.getBytes(StandardCharsets.ISO_8859_1)));
        } catch (java.security.NoSuchAlgorithmException e) {
            throw new IllegalStateException(e);
        }
    }

    private static List<Range> parse(String reply, String word) {
        check(reply.startsWith(word + " "), "not a " + word + ": " + shown(reply));
        String list = reply.substring(word.length() + 1);
        check(list.endsWith(";") && !list.contains(" "), "a list ends in ; and has no blanks: " + shown(reply));
        List<Range> ranges = new ArrayList<>();
        for (String triple : list.substring(0, list.length() - 1).split(";", -1)) {
            String[] parts = triple.split(",", -1);
            check(parts.length == 3, "not a triple: " + triple);
            check(parts[0].matches("[0-9a-f]{32}") && parts[1].matches("[0-9a-f]{32}"), "positions: " + triple);
            check(parts[2].matches("[^:]+:[0-9]+"), "address: " + triple);
            ranges.add(new Range(new BigInteger(parts[0], 16), new BigInteger(parts[1], 16), parts[2]));
        }
        return ranges;
    }

    /** Asks one server, on a connection that is kept. */
    private String ask(String address, String line) throws IOException {
        Link link = links.get(address);
        if (link == null) {
            link = new Link(address, greeting && seeds.contains(address));
            links.put(address, link);
        }
        try {
            return link.ask(line);
        } catch (IOException e) {
            link.close();
            links.remove(address);
            throw e;
        }
    }

    private static boolean refused(String reply) {
        return reply.equalsIgnoreCase("server_stopped")
                || reply.equalsIgnoreCase("server_not_responsible")
                || reply.equalsIgnoreCase("server_write_lock");
    }

    private void backOff(long deadline, String why) {
        check(System.currentTimeMillis() < deadline, "no answer within " + RETRY_FOR_MS + " ms: " + why);
        try {
            Thread.sleep(1 + random.nextInt(BACKOFF_MS_MAX));
        } catch (InterruptedException e) {
            throw new Failure("interrupted");
        }
    }

    /** A list, from the first server that has one. */
    private List<Range> list(String request, String word) {
        long deadline = System.currentTimeMillis() + RETRY_FOR_MS;
        while (true) {
            String why = "no server";
            Set<String> known = new LinkedHashSet<>(seeds);
            ranges.forEach(range -> known.add(range.address()));
            for (String address : known) {
                try {
                    String reply = ask(address, request);
                    if (!refused(reply)) {
                        return parse(reply, word);
                    }
                    why = address + " says " + reply;
                } catch (IOException e) {
                    why = address + ": " + e.getMessage();
                }
            }
            backOff(deadline, request + ": " + why);
        }
    }

    private String coordinator(String key) {
        BigInteger position = position(key);
        return ranges.stream().filter(range -> range.contains(position)).findFirst().map(Range::address)
                .orElseGet(() -> seeds.get(random.nextInt(seeds.size())));
    }

    /** Asks the key's server, and goes where the ranges say when it is another one's. */
    private String request(String key, String line) {
        long deadline = System.currentTimeMillis() + RETRY_FOR_MS;
        while (true) {
            String address = coordinator(key);
            String why;
            try {
                String reply = ask(address, line);
                if (!refused(reply)) {
                    return reply;
                }
                why = reply;
                if (reply.equalsIgnoreCase("server_not_responsible")) {
                    boolean first = ranges.isEmpty();
                    ranges = list("keyrange", "keyrange_success");
                    if (first) {
                        continue;
                    }
                }
            } catch (IOException e) {
                why = e.getMessage();
                ranges = list("keyrange", "keyrange_success");
            }
            backOff(deadline, shown(line) + " at " + address + ": " + why);
        }
    }

    private void expectOf(String key, String line, String expected) {
        expect(line, expected, request(key, line));
    }

    /** For writes: a retry after a broken connection may find its own first try. */
    private void expectOneOf(String key, String line, String... expected) {
        String reply = request(key, line);
        check(List.of(expected).contains(reply), shown(line) + " was answered " + shown(reply));
    }

    private static String key(String prefix, int i) {
        return prefix + i;
    }

    private static String value(int i) {
        return "value " + i + "  of  " + Integer.toHexString(i * 0x9e3779b9);
    }

    private static boolean deleted(int i) {
        return i % 10 == 9;
    }

    private void write(String prefix, int keys) {
        for (int i = 0; i < keys; i++) {
            String key = key(prefix, i);
            expectOneOf(key, "put " + key + " first", "put_success " + key, "put_update " + key);
            expectOf(key, "put " + key + " " + value(i), "put_update " + key);
            expectOf(key, "get " + key, "get_success " + key + " " + value(i));
            if (deleted(i)) {
                expectOneOf(key, "delete " + key, "delete_success " + key, "delete_error " + key);
            }
        }
    }

    private static String expectedGet(String prefix, int i) {
        String key = key(prefix, i);
        return deleted(i) ? "get_error " + key + " key not found" : "get_success " + key + " " + value(i);
    }

    private void verify(String prefix, int keys) {
        for (int i = 0; i < keys; i++) {
            expectOf(key(prefix, i), "get " + key(prefix, i), expectedGet(prefix, i));
        }
        List<Range> readers = list("keyrange_read", "keyrange_read_success");
        for (int i = 0; i < keys; i++) {
            readers = verifyAtEach(prefix, i, readers);
        }
    }

    /** Gets a key from every server of the list, and from every one of a newer list if one of them has changed. */
    private List<Range> verifyAtEach(String prefix, int i, List<Range> readers) {
        long deadline = System.currentTimeMillis() + RETRY_FOR_MS;
        String line = "get " + key(prefix, i);
        BigInteger position = position(key(prefix, i));
        while (true) {
            String why = null;
            int asked = 0;
            for (Range range : readers) {
                if (why != null || !range.contains(position)) {
                    continue;
                }
                asked++;
                try {
                    String reply = ask(range.address(), line);
                    if (refused(reply)) {
                        why = range.address() + " says " + reply;
                    } else {
                        expect(line + " at " + range.address(), expectedGet(prefix, i), reply);
                    }
                } catch (IOException e) {
                    why = range.address() + ": " + e.getMessage();
                }
            }
            if (why == null) {
                check(asked > 0, "no server answers " + line);
                return readers;
            }
            backOff(deadline, line + ": " + why);
            readers = list("keyrange_read", "keyrange_read_success");
        }
    }

    private void dialects(String prefix) {
        String key = prefix + "dialect";
        request(key, "delete " + key);
        expectOf(key, "get " + key, "get_error " + key + " key not found");
        expectOf(key, "GET " + key, "GET_ERROR " + key);
        expectOf(key, "delete " + key, "delete_error " + key);
        expectOf(key, "PUT " + key + " null", "DELETE_ERROR " + key);
        expectOf(key, "PUT " + key + " one  two", "PUT_SUCCESS " + key + " one  two");
        expectOf(key, "PUT " + key + " three", "PUT_UPDATE " + key + " three");
        expectOf(key, "get " + key, "get_success " + key + " three");
        expectOf(key, "GET " + key, "GET_SUCCESS " + key + " three");
        expectOf(key, "PUT " + key, "DELETE_SUCCESS " + key);
        expectOf(key, "Put " + key + " null", "put_success " + key);
        expectOf(key, "get " + key, "get_success " + key + " null");
        StringBuilder latin = new StringBuilder("all of ISO-8859-1:");
        for (char c = 0; c < 256; c++) {
            latin.append(c == '\r' || c == '\n' ? '.' : c);
        }
        String large = "x".repeat(LARGE_VALUE_BYTES);
        for (String value : List.of(latin.toString(), large, "a=b,c;d")) {
            expectOf(key, "put " + key + " " + value, "put_update " + key);
            expectOf(key, "get " + key, "get_success " + key + " " + value);
        }
        expectOf(key, "delete " + key, "delete_success " + key);
        for (String line : List.of("hello", "put", "put " + key, "get", "get a b", "delete")) {
            String reply = request(key, line);
            check(reply.startsWith("error "), line + " was answered " + reply);
        }
        for (String line : List.of("HELLO", "GET", "PUT", "DELETE " + key)) {
            String reply = request(key, line);
            check(reply.startsWith("FAILED "), line + " was answered " + reply);
        }
        expectOf(key, "\r\n\n  \r\nget " + key, "get_error " + key + " key not found");
    }

    private void ranges() {
        List<Range> write = list("keyrange", "keyrange_success");
        List<Range> upper = list("KEYRANGE", "KEYRANGE_SUCCESS");
        check(covered(write).equals(CIRCLE) && covered(upper).equals(CIRCLE), "keyrange covers the circle once");
        for (Range range : write) {
            long same = write.stream().filter(other -> other.contains(range.from())).count();
            check(same == 1, range.from().toString(16) + " is in " + same + " ranges");
        }
        for (List<Range> read : List.of(list("keyrange_read", "keyrange_read_success"),
                list("KEYRANGE_READ", "KEYRANGE_SUCCESS"))) {
            for (Range range : write) {
                for (BigInteger position : List.of(range.from(), range.to())) {
                    List<String> servers = read.stream().filter(reader -> reader.contains(position))
                            .map(Range::address).toList();
                    check(new LinkedHashSet<>(servers).size() == servers.size(), "a server is listed twice");
                    check(servers.contains(range.address()), "a coordinator reads its own: " + servers);
                }
            }
        }
    }

    private static BigInteger covered(List<Range> ranges) {
        return ranges.stream().map(Range::size).reduce(BigInteger.ZERO, BigInteger::add);
    }

    private void clean(String prefix, int keys) {
        for (int i = 0; i < keys; i++) {
            String key = key(prefix, i);
            expectOneOf(key, "delete " + key, "delete_success " + key, "delete_error " + key);
            expectOf(key, "get " + key, "get_error " + key + " key not found");
        }
    }

    private static void usage(String problem) {
        System.err.println(problem + "\nusage: java FamilyClient.java [--greeting] [--keys N] [--prefix P] "
                + "(all|write|verify|dialects|ranges|clean) host:port...");
        System.exit(2);
    }

    /** See the class. With --greeting the given ports greet; those that the lists name never do. */
    public static void main(String[] args) {
        boolean greeting = false;
        int keys = 1000;
        String prefix = "family-";
        int i = 0;
        for (; i < args.length && args[i].startsWith("--"); i++) {
            if (args[i].equals("--greeting")) {
                greeting = true;
            } else if (args[i].equals("--keys") && i + 1 < args.length) {
                keys = Integer.parseInt(args[++i]);
            } else if (args[i].equals("--prefix") && i + 1 < args.length) {
                prefix = args[++i];
            } else {
                usage("unknown option " + args[i]);
            }
        }
        if (args.length < i + 2) {
            usage("a phase and a server are missing");
        }
        String phase = args[i];
        FamilyClient client = new FamilyClient(List.of(args).subList(i + 1, args.length), greeting);
        long start = System.currentTimeMillis();
        try {
            client.run(phase, prefix, keys);
        } catch (Failure e) {
            System.err.println("FamilyClient: " + phase + ": " + e.getMessage());
            System.exit(1);
        }
        System.out.println("FamilyClient: " + phase + " is right, " + keys + " keys, "
                + (System.currentTimeMillis() - start) + " ms");
        System.exit(0);
    }

    private void run(String phase, String prefix, int keys) {
        boolean all = phase.equals("all");
        if (!all && !List.of("write", "verify", "dialects", "ranges", "clean").contains(phase)) {
            usage("unknown phase " + phase);
        }
        if (all || phase.equals("write")) {
            write(prefix, keys);
        }
        if (all || phase.equals("verify")) {
            verify(prefix, keys);
        }
        if (all || phase.equals("dialects")) {
            dialects(prefix);
        }
        if (all || phase.equals("ranges")) {
            ranges();
        }
        if (all || phase.equals("clean")) {
            clean(prefix, keys);
        }
    }
}
