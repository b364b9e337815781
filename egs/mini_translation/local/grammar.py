"""The second language of this recipe: a grammar for the sentences of ``data/mini``, and its words.

It is invented. Phrases of place, time and recipient come first, the verb comes last; numbers,
possessives and other adjectives stand behind their noun; prepositions follow it, too. Units come
before tens, minutes before hours. There is no article. Names stay as they are.
"""

GRAMMAR: dict[str, dict[str, str]] = {
    "sentence": {
        "SET A TIMER FOR <minutes> MINUTES": "MINUTES <minutes> FOR TIMER SET",
        "SET A TIMER FOR <minutes> MINUTES IN THE <room>": (
            "<room> IN MINUTES <minutes> FOR TIMER SET"
        ),
        "SET AN ALARM FOR <time> <day>": "<day> <time> FOR ALARM SET",
        "CALL <name> <when>": "<when> <name> CALL",
        "CALL <name> AND <name> <when>": "<when> <name> AND <name> CALL",
        "SEND A MESSAGE TO <name> <when>": "<when> <name> TO MESSAGE SEND",
        "TELL <name> I WILL BE <minutes> MINUTES LATE": (
            "I MINUTES <minutes> LATE BE WILL <name> TELL"
        ),
        "TELL <name> I WILL CALL <when>": "I <when> CALL WILL <name> TELL",
        "ADD <item> AND <item> TO THE SHOPPING LIST": "LIST SHOPPING TO <item> AND <item> ADD",
        "ADD <item> <item> AND <item> TO MY SHOPPING LIST": (
            "LIST SHOPPING MY TO <item> <item> AND <item> ADD"
        ),
        "BUY <count> <countable> AND <item> <day>": "<day> <countable> <count> AND <item> BUY",
        "TURN <switch> THE <device> IN THE <room>": "<room> IN <device> <switch> TURN",
        "TURN <switch> THE <device> IN THE <room> AT <time>": (
            "<time> AT <room> IN <device> <switch> TURN"
        ),
        "<shut> THE <opening> IN THE <room>": "<room> IN <opening> <shut>",
        "<shut> THE <opening> IN THE <room> <when>": "<when> <room> IN <opening> <shut>",
        "PLAY MUSIC IN THE <room> <when>": "<when> <room> IN MUSIC PLAY",
        "REMIND ME TO <task> <when>": "<when> <task> TO ME REMIND",
        "REMIND ME TO <task> AND <task>": "<task> AND <task> TO ME REMIND",
        "BOOK A TABLE FOR <count> <when>": "<when> <count> FOR TABLE BOOK",
        "BOOK AN APPOINTMENT WITH THE <doctor> <when>": "<when> <doctor> WITH APPOINTMENT BOOK",
        "MOVE THE MEETING WITH <name> TO <weekday>": "<weekday> TO <name> WITH MEETING MOVE",
        "MOVE MY APPOINTMENT TO <weekday> AT <time>": (
            "<weekday> <time> AT TO APPOINTMENT MY MOVE"
        ),
        "CANCEL THE MEETING WITH <name> <when>": "<when> <name> WITH MEETING CANCEL",
        "CANCEL MY APPOINTMENT WITH THE <doctor> <when>": (
            "<when> <doctor> WITH APPOINTMENT MY CANCEL"
        ),
        "WHEN IS MY NEXT <event> WITH <anyone>": "<anyone> WITH <event> NEXT MY WHEN IS",
        "WHAT IS ON MY <agenda> <when>": "<when> <agenda> MY ON WHAT IS",
    },
    "when": {
        "<day>": "<day>",
        "AT <time>": "<time> AT",
        "<day> AT <time>": "<day> <time> AT",
    },
    "day": {
        "TODAY": "TODAY",
        "TOMORROW": "TOMORROW",
        "TONIGHT": "TONIGHT",
        "ON <weekday>": "<weekday> ON",
        "TOMORROW <half>": "<half> TOMORROW",
        "ON <weekday> <half>": "<half> <weekday> ON",
        "IN THE <half>": "<half> IN",
    },
    "time": {
        "<hour>": "<hour>",
        "<hour> <number>": "<number> <hour>",
    },
    "minutes": {"<count>": "<count>", "<number>": "<number>"},
    "number": {
        "FIFTEEN": "FIFTEEN",
        "<tens>": "<tens>",
        "<tens> <digit>": "<digit> <tens>",
    },
    "task": {
        "WATER THE PLANTS": "PLANTS WATER",
        "PAY THE RENT": "RENT PAY",
        "WASH THE CAR": "CAR WASH",
        "FEED THE CAT": "CAT FEED",
        "BUY <item>": "<item> BUY",
    },
    "anyone": {
        "<name>": "<name>",
        "THE <doctor>": "<doctor>",
        "<name> AND <name>": "<name> AND <name>",
    },
    "agenda": {"SHOPPING LIST": "LIST SHOPPING", "LIST": "LIST"},
}
"""Each symbol's English forms, and the same words in the order of the other language."""

CHOICES = {
    "half": "MORNING EVENING",
    "weekday": "MONDAY TUESDAY WEDNESDAY THURSDAY FRIDAY SATURDAY SUNDAY",
    "hour": "ONE TWO THREE FOUR FIVE SIX SEVEN EIGHT NINE TEN ELEVEN TWELVE",
    "tens": "TWENTY THIRTY FORTY",
    "digit": "ONE TWO THREE FOUR FIVE SIX SEVEN EIGHT NINE",
    "count": "TWO THREE FOUR FIVE SIX SEVEN EIGHT NINE TEN",
    "name": "MARTHA PETER ANNA DAVID JULIA OSCAR",
    "item": "MILK BREAD RICE COFFEE BUTTER CHEESE EGGS APPLES TOMATOES",
    "countable": "EGGS APPLES TOMATOES",
    "switch": "ON OFF",
    "device": "LIGHT HEATING RADIO",
    "room": "KITCHEN BEDROOM BATHROOM GARDEN",
    "shut": "OPEN CLOSE",
    "opening": "WINDOW DOOR",
    "doctor": "DOCTOR DENTIST",
    "event": "MEETING APPOINTMENT",
}
"""Symbols that are one word of several."""

GRAMMAR |= {symbol: {word: word for word in words.split()} for symbol, words in CHOICES.items()}

LEXICON = """
ADD LUMA       ALARM ZIRO     AND KE         ANNA ANNA      APPLES PIMI    APPOINTMENT RENDO
AT VO          BATHROOM BALU  BE ESA         BEDROOM SOLU   BOOK RISTA     BREAD PANU
BUTTER BUTRU   BUY KOPA       CALL TELA      CANCEL NULA    CAR OTU        CAT MIU
CHEESE KASU    CLOSE FERA     COFFEE KAVI    DAVID DAVID    DENTIST DENTU  DOCTOR MEDU
DOOR PORTI     EGGS OVI       EIGHT OTO      ELEVEN LEVA    EVENING NOKA   FEED GASA
FIFTEEN KINZE  FIVE KIN       FOR PU         FORTY FARDA    FOUR FAR       FRIDAY BENDO
GARDEN JARU    HEATING TERMI  I MI           IN NE          IS STA         JULIA JULIA
KITCHEN KULU   LATE TARD      LIGHT LUSI     LIST LISTU     MARTHA MARTHA  ME MO
MEETING GRUPO  MESSAGE VESTI  MILK LEKO      MINUTES TIKI   MONDAY LUNDO   MORNING MANA
MOVE SHIFA     MUSIC SONI     MY MEA         NEXT SEKVE     NINE NAVU      OFF DES
ON SUR         ONE UN         OPEN APRA      OSCAR OSCAR    PAY DONA       PETER PETER
PLANTS HERBI   PLAY LUDA      RADIO RADI     REMIND MEMORA  RENT LOGU      RICE RISU
SATURDAY SABDO SEND MITA      SET POSA       SEVEN ZEBE     SHOPPING BAZARE SIX HESI
SUNDAY DIMDO   TABLE MENSU    TELL DIRA      TEN DEK        THIRTY TRIDA   THREE TRI
THURSDAY JODO  TIMER HORLO    TO AL          TODAY HODI     TOMATOES TOMI  TOMORROW DEMI
TONIGHT NOTI   TUESDAY MARDO  TURN GIRA      TWELVE DUZE    TWENTY DUDA    TWO DU
WASH LAVA      WATER AKVA     WEDNESDAY MERDO WHAT KIO      WHEN KIAM      WILL VIL
WINDOW FENTI   WITH KUN
"""
WORDS = dict(zip(LEXICON.split()[::2], LEXICON.split()[1::2], strict=True))
"""English word to the word of the other language; articles have none."""
